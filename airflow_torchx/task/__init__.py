"""Runs one app for one Airflow task."""
