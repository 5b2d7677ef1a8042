"""From a command line to an exit code."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_torchx import __version__
from airflow_torchx.cli.commands import COMMANDS, Command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROG: Final = "airflow-torchx"
#: As shells have it for a process that a signal ended.
_INTERRUPTED: Final = 130
_BROKEN_PIPE: Final = 141
#: What a stream says whose reader has gone, or whose disk is full.
_UNWRITABLE: Final = (errno.EPIPE, errno.ENOSPC, errno.EIO)
_WRONG_COMMAND_LINE: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        argv: its words without the program; None for those of this process.

    Raises:
        SystemExit: after a help text, or if `argparse` does not understand the words.
    """
    words = parser()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Whoever started us has closed it.
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for good
    try:
        arguments = words.parse_args(argv)
    except SystemExit:
        if _is_flushed():
            raise
        return _BROKEN_PIPE
    if arguments.command is None:
        words.print_help(sys.stderr)
        return _WRONG_COMMAND_LINE
    return execute(arguments.command, arguments)


def execute(command: Command, arguments: argparse.Namespace) -> int:
    """Run one command and return its exit code; errors become text on standard error."""
    from airflow_torchx.cli.screen import prepare, show_error
    from airflow_torchx.errors import (
        AirflowTorchXError,
        ComponentError,
        ConditionError,
        UsageError,
    )

    prepare(getattr(arguments, "log_level", None) or os.environ.get("LOGLEVEL") or "INFO")
    try:
        code = function_of(command)(arguments)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as why:
        if why.errno not in _UNWRITABLE:
            raise
        _leave_quietly()
        return _BROKEN_PIPE
    except AirflowTorchXError as why:
        show_error(why)
        is_usage = isinstance(why, UsageError | ComponentError | ConditionError)
        return _WRONG_COMMAND_LINE if is_usage else 1
    return code if _is_flushed() else _BROKEN_PIPE


def function_of(command: Command) -> Callable[[argparse.Namespace], int]:
    """Return what runs a command; its module is imported now."""
    module, _, name = command.function.partition(":")
    function: Callable[[argparse.Namespace], int] = getattr(
        import_module(f"airflow_torchx.cli.{module}"), name
    )
    return function


def parser() -> argparse.ArgumentParser:
    """Return what understands the words of a command line."""
    words = argparse.ArgumentParser(
        PROG,
        description="Run TorchX apps on a Docker daemon, to try what a DAG will launch.",
        epilog=f"{PROG} COMMAND --help tells more. Defaults come from .torchxconfig.",
    )
    words.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    words.add_argument(
        "--log_level", metavar="LEVEL", help="how much to say: DEBUG, INFO, WARNING or ERROR"
    )
    words.set_defaults(command=None)
    commands = words.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        one = commands.add_parser(
            command.name,
            help=command.help,
            description=_sentence(command),
            epilog=command.epilog,
            # Else an option of a component counts as ours, cut short.
            allow_abbrev=False,
        )
        for argument in command.arguments:
            one.add_argument(*argument.flags, **argument.settings)
        one.set_defaults(command=command)
    return words


def _sentence(command: Command) -> str:
    return f"{command.help[0].upper()}{command.help[1:]}."


def _is_flushed() -> bool:
    """Tell whether all that was written has arrived; if not, whoever read it has gone."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        _leave_quietly()
        return False
    return True


def _leave_quietly() -> None:
    """Let Python end without a word about output that nobody reads."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(quiet, stream.fileno())
