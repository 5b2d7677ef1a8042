"""The page in Airflow's UI. Importing this package costs nothing."""
