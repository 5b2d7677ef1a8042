"""Errors of reading a file of a container."""

from __future__ import annotations


class TooLargeError(ValueError):
    """A regular file of a container is larger than its reader wants."""
