"""Provides ``airflow-torchx``: TorchX's command line on the operator's code path.

It starts fast: only `argparse` is imported before the command is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

#: A shell's exit code after SIGINT.
INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, None for that of this process, and return its exit code.

    Ctrl-C ends it without a traceback, also while it imports its modules.

    Raises:
        SystemExit: after printing help, or if `argparse` rejects the arguments.
    """
    try:
        from airflow_torchx.cli import dispatch

        return dispatch.main(argv)
    except KeyboardInterrupt:
        return INTERRUPTED
