"""One Airflow task's life with its app."""
