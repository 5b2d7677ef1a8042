"""Decisions of an Airflow task about its app."""
