"""Formats sizes and counts for messages."""

from __future__ import annotations

from typing import Final

_KB: Final = 1_000
_MB: Final = 1_000_000
_MIB: Final = 1 << 20


def size(count: int) -> str:
    """Return a number of bytes, like ``12 bytes``, ``3.4 kB`` or ``1,402 MB``."""
    if count < _MB:
        return f"{count / _KB:,.1f} kB" if count >= _KB else counted(count, "byte")
    return f"{count / _MB:,.1f} MB" if count < 10 * _MB else f"{count / _MB:,.0f} MB"


def mib(count: int) -> str:
    """Return a number of bytes in the unit of the run options, like ``0.5 MiB``."""
    return f"{count / _MIB:,.1f} MiB"


def cpus_text(count: float) -> str:
    """Return CPUs, like ``1 CPU`` or ``0.5 CPUs``."""
    return f"{count:g} CPU{'s' * (count != 1)}"


def counted(count: int, what: str) -> str:
    """Return a number of things, like ``1 file`` or ``2,000 files``."""
    return f"{count:,} {what}{'s' * (count != 1)}"
