"""Implements the commands runopts and builtins."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Final

from airflow_torchx import components
from airflow_torchx.cli.screen import paint, print_result
from airflow_torchx.components.source import source_of
from airflow_torchx.core.plan import run_opts
from airflow_torchx.core.plan.swarm_problems import SWARM_OPTIONS
from airflow_torchx.specs.docstrings import docstring
from airflow_torchx.specs.handle import SWARM_SCHEDULER

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
    names = SWARM_OPTIONS if args.scheduler == SWARM_SCHEDULER else None
    for name, option in run_opts.runopts(names):
        print_result(f"  {paint(name, 'bold', sys.stdout)}={option.form}{_default(option)}")
        meaning = textwrap.fill(option.help, width - len(_INDENT))
        print_result(textwrap.indent(meaning, _INDENT))
    print_result(f"\n{_EXAMPLE}")
    return 0


def builtins(args: Namespace) -> int:
    """List the components, or show the help or the source of one."""
    if name := args.print:
        print_result(source_of(name, components.get(name)).rstrip())
        return 0
    if name := args.component:
        print_result(components.usage(name, components.get(name)).rstrip())
        return 0
    for name in components.names():
        summary, _ = docstring(components.get(name))
        print_result(f"{paint(name.ljust(16), 'bold', sys.stdout)}{summary}")
    return 0


def _default(option: run_opts.runopt) -> str:
    if option.default in (None, (), {}):
        return ""
    is_flag = isinstance(option.default, bool)
    return f"  ({str(option.default).lower() if is_flag else option.default})"
