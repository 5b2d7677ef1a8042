"""``airflow torchx``: the commands of ``airflow-torchx`` among Airflow's own.

Airflow calls this in each of its command lines, so it imports what it needs late.
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
    """Return the group of commands that Airflow's command line gets."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    from airflow_torchx.cli.commands import COMMANDS

    commands = [
        ActionCommand(
            name=command.name,
            help=command.help,
            func=partial(_run, command),
            args=[
                Arg(flags=one.flags, **one.settings)  # type: ignore[no-untyped-call]
                for one in command.arguments
            ],
            epilog=command.epilog,
        )
        for command in COMMANDS
    ]
    return [GroupCommand(name="torchx", help="Run TorchX apps on Docker", subcommands=commands)]


def _run(command: Command, arguments: Namespace) -> None:
    from airflow_torchx.cli.dispatch import execute

    sys.exit(execute(command, arguments))
