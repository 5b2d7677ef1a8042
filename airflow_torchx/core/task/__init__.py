"""What a task decides about its app: pure."""
