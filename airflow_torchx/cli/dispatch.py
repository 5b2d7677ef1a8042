"""Parses a command line, runs its command and returns the exit code."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import itertools
import os
import re
import sys
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Final, NoReturn

from airflow_torchx import __version__
from airflow_torchx.cli import INTERRUPTED
from airflow_torchx.cli.commands import COMMANDS, ONLY_TORCHX, RUN, Command, Once
from airflow_torchx.specs.suggest import nearest, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROG: Final = "airflow-torchx"
#: A shell's exit code after SIGPIPE.
_BROKEN_PIPE: Final = 141
#: Errors of an output stream whose reader has exited, or whose disk is full.
_UNWRITABLE: Final = (errno.EPIPE, errno.ENOSPC, errno.EIO)
_USAGE: Final = 2
_HELP: Final = ("-h", "--help")
_COMPONENT: Final = re.compile(r"\w[.:]\w")
#: Options before the command.
_ROOT: Final = ("--version", "--log_level")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, None for that of this process, and return its exit code.

    Raises:
        SystemExit: after printing help, or if `argparse` rejects the arguments.
    """
    argument_parser = parser()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The parent process has closed it.
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until exit
    try:
        arguments, unknown = argument_parser.parse_known_args(argv)
        if unknown:
            lines = [_unknown(unknown, arguments.command)]
            if arguments.command is RUN:
                lines += _more_mistakes(sys.argv[1:] if argv is None else argv, unknown)
            arguments.parser.error("\n".join(lines))
    except SystemExit:
        if _flush():
            raise
        return _BROKEN_PIPE
    if arguments.command is None:
        argument_parser.print_help(sys.stderr)
        return _USAGE
    return execute(arguments.command, arguments)


def execute(command: Command, arguments: argparse.Namespace) -> int:
    """Run one command and return its exit code; errors are printed to standard error."""
    from airflow_torchx.cli.screen import configure, print_error
    from airflow_torchx.errors import (
        AirflowTorchXError,
        ComponentError,
        ConditionError,
        UsageError,
    )

    configure(getattr(arguments, "log_level", None) or os.environ.get("LOGLEVEL") or "INFO")
    try:
        code = function_of(command)(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except AirflowTorchXError as error:  # some are OSErrors, too: TimeoutError is one
        print_error(error)
        is_usage = isinstance(error, UsageError | ComponentError | ConditionError)
        return _USAGE if is_usage else 1
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _discard_output()
        return _BROKEN_PIPE
    return code if _flush() else _BROKEN_PIPE


def function_of(command: Command) -> Callable[[argparse.Namespace], int]:
    """Import and return the function of a command."""
    function: Callable[[argparse.Namespace], int]
    function = resolve_name(f"airflow_torchx.cli.{command.function}")
    return function


class _Parser(argparse.ArgumentParser):
    """Names the nearest choice, like a command or an option, instead of an unknown one."""

    _given: Sequence[str] = ()

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments, and keep them for messages."""
        self._given = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Exit with a message, which also names the unknown options in front of a component."""
        if message.startswith(f"argument {'/'.join(_HELP)}: "):
            message = "unexpected argument; did you mean --help?"
        elif message.startswith("the following arguments are required"):
            options = itertools.takewhile(lambda arg: arg.startswith("--"), self._given)
            if unknown := [one for one in options if one not in self._option_string_actions]:
                message = f"{_unknown(unknown, self.get_default('command'))}\n{message}"
        super().error(message)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            hint = suggest(str(value), action.choices)
            if nearest(str(value), [*action.choices, *_HELP]) in _HELP:
                hint = "did you mean --help?"
            if str(value) in ONLY_TORCHX:
                hint = _only_torchx(str(value))
            if "run" in action.choices and _COMPONENT.search(str(value)):
                hint = f"to run a component, write run {value}"
            raise argparse.ArgumentError(action, f"unknown value {value!r}; {hint}")


def _only_torchx(name: str) -> str:
    return f"only TorchX has it; {ONLY_TORCHX[name]}"


def _unknown(arguments: Sequence[str], command: Command | None) -> str:
    """Return the error for arguments that a command does not have."""
    flags = (flag for one in command.arguments for flag in one.flags) if command else _ROOT
    known = [*flags, *_HELP]
    lines = []
    for argument in arguments:
        option = argument.partition("=")[0]
        near = nearest(option, [flag for flag in known if flag.startswith("-")])
        hint = f"; did you mean {near}?" if near and option.startswith("-") else ""
        if option in ONLY_TORCHX:
            hint = f"; {_only_torchx(option)}"
        elif command is not None and option in known:
            hint = f"; write it after {command.name}"
        elif command is not None and option in _ROOT:
            hint = f"; write it before {command.name}"
        elif command is RUN and not hint:
            hint = "; options of a component come after its name"
        lines.append(f"unexpected argument {option}{hint}")
    return "\n".join(lines)


def _more_mistakes(argv: Sequence[str], unknown: Sequence[str]) -> list[str]:
    """Return what else is wrong with a `run` whose unknown options mean the nearest ones."""
    from airflow_torchx.cli.run import mistakes

    flags = [flag for one in RUN.arguments for flag in one.flags if flag.startswith("-")]
    left, meant = [*unknown], []
    for argument in argv:
        option, equals, value = argument.partition("=")
        if argument not in left:
            meant.append(argument)
            continue
        left.remove(argument)
        if option not in ONLY_TORCHX and (near := nearest(option, flags)):
            meant.append(f"{near}{equals}{value}")
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            arguments, still_unknown = parser().parse_known_args(meant)
    except SystemExit:
        return []
    component = next(iter(arguments.component_name_and_args), "")
    # An unknown option may have had a value, which now passes for the component.
    is_clear = len(meant) == len(argv) or _COMPONENT.search(component)
    return mistakes(arguments) if is_clear and not still_unknown else []


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    root = _Parser(
        PROG,
        description="Run TorchX apps on Docker, as a DAG would.",
        epilog=f"See {PROG} COMMAND --help. Defaults are read from .torchxconfig.",
    )
    root.add_argument(_ROOT[0], action="version", version=f"{PROG} {__version__}")
    levels = "DEBUG, INFO (the default), WARNING or ERROR"
    root.add_argument(_ROOT[1], action=Once, metavar="LEVEL", help=levels)
    root.set_defaults(command=None, parser=root)
    commands = root.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        subparser = commands.add_parser(
            command.name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=command.epilog,
            # An option of a component must not pass for an abbreviation of ours.
            allow_abbrev=False,
        )
        for argument in command.arguments:
            subparser.add_argument(*argument.flags, **argument.settings)
        subparser.set_defaults(command=command, parser=subparser)
    return root


def _flush() -> bool:
    """Flush the output, and return False if its reader has exited."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        _discard_output()
        return False
    return True


def _discard_output() -> None:
    """Redirect the output to the null device, so that Python exits without an error about it."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(null, stream.fileno())
