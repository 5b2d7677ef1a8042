"""The state of an app, and what a waiting task, sensor or trigger does next."""
