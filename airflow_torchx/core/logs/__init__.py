"""Log lines, and cursors to resume reading a log."""
