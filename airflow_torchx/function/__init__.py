"""Runs a Python function in the replicas of an app."""
