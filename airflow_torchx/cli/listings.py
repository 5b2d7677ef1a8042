"""Implements the commands runopts and builtins."""

from __future__ import annotations

import shutil
import sys
import textwrap
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx import components
from airflow_torchx.cli.screen import paint, print_result
from airflow_torchx.components.usage import docstring
from airflow_torchx.core.plan.option_text import written_form
from airflow_torchx.core.plan.options import Opts, default_of

if TYPE_CHECKING:
    from argparse import Namespace

_INDENT: Final = "      "
_NAMES: Final = "local_docker, docker"
_EXAMPLE: Final = """\
-cfg "stop_grace_s=5,cap_add=NET_ADMIN;SYS_NICE,env=A:1;B:2,ulimits='memlock=-1'"
(quote a value that contains =)"""


def runopts(args: Namespace) -> int:
    """List the run options with their form, default and meaning."""
    width = max(40, min(shutil.get_terminal_size().columns, 100))
    print_result(f"{paint(args.scheduler or _NAMES, 'green', sys.stdout)}:")
    _, descriptions = docstring(Opts)
    for option in fields(Opts):
        print_result(f"  {paint(option.name, 'bold', sys.stdout)}={_form(option)}")
        meaning = textwrap.fill(descriptions[option.name], width - len(_INDENT))
        print_result(textwrap.indent(meaning, _INDENT))
    print_result(f"\n{_EXAMPLE}")
    return 0


def builtins(args: Namespace) -> int:
    """List the components, or show the help of one."""
    if name := args.component or args.print:
        print_result(components.usage(name, components.get(name)).rstrip())
        return 0
    for name in components.names():
        summary, _ = docstring(components.get(name))
        print_result(f"{paint(name.ljust(16), 'bold', sys.stdout)}{summary}")
    return 0


def _form(option: Field[Any]) -> str:
    default = default_of(option)
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    return f"{written_form(option)}{f'  ({shown})' if default not in (None, (), {}) else ''}"
