"""Log lines and how far they have been written: pure."""
