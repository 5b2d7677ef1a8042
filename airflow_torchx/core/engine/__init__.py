"""What the container engine is asked for, as data: pure."""
