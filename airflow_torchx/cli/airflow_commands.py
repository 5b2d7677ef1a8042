"""Adds the commands of ``airflow-torchx`` to Airflow's command line as ``airflow torchx``.

Every `airflow` command calls this module, so its imports are lazy.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow.cli.cli_config import CLICommand

    from airflow_torchx.cli.commands import Command


def get_commands() -> list[CLICommand]:
    """Return the command group ``torchx`` for Airflow's parser."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    from airflow_torchx.cli.commands import COMMANDS

    commands = [
        ActionCommand(
            name=command.name,
            help=command.help,
            func=partial(_run, command),
            args=[
                Arg(flags=argument.flags, **argument.settings)  # type: ignore[no-untyped-call]
                for argument in command.arguments
            ],
            epilog=command.epilog,
        )
        for command in COMMANDS
    ]
    return [GroupCommand(name="torchx", help="Run TorchX apps on Docker", subcommands=commands)]


def _run(command: Command, arguments: Namespace) -> None:
    from airflow_torchx.cli.dispatch import execute

    arguments.in_airflow = True
    sys.exit(execute(command, arguments))
