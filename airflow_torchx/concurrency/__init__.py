"""Concurrent calls in threads, and locks between the processes of a host."""
