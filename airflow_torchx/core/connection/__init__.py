"""Where a daemon is and how it is reached: pure."""
