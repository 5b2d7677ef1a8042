"""A Python function as what the replicas of an app run."""
