"""What can be written."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from airflow_torchx import components
from airflow_torchx.cli.dispatch import parser
from airflow_torchx.cli.listings import builtins, runopts
from airflow_torchx.core.plan.options import Opts

if TYPE_CHECKING:
    import pytest


def test_every_run_option_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """With its form, its default and what it means."""
    assert 0 == runopts(parser().parse_args(["runopts", "docker"]))

    told = capsys.readouterr().out
    assert told.startswith("docker:\n")
    assert [] == [one.name for one in fields(Opts) if f"\n  {one.name}=" not in told]
    assert (
        "  pull_policy=always|if_possible|missing|never  (missing)\n      `missing` pulls" in told
    )
    assert "  quiet=true|false  (false)\n" in told


def test_every_component_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """With what it does, and one of them with how it is called."""
    assert 0 == builtins(parser().parse_args(["builtins"]))
    told = capsys.readouterr().out
    assert 0 == builtins(parser().parse_args(["builtins", "--print", "dist.ddp"]))
    one = capsys.readouterr().out
    assert 0 == builtins(parser().parse_args(["builtins", "dist.ddp"]))

    assert one == capsys.readouterr().out
    assert [] == [name for name in components.names() if f"{name} " not in told]
    assert "usage: dist.ddp" in one
    assert "--script" in one
