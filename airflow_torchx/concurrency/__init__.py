"""Threads of one process, and processes of one host."""
