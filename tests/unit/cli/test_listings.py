"""Tests the commands runopts and builtins."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from airflow_torchx import components
from airflow_torchx.cli.dispatch import parser
from airflow_torchx.cli.listings import builtins, runopts
from airflow_torchx.core.plan.options import Opts

if TYPE_CHECKING:
    from pathlib import Path


def test_every_run_option_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Every run option is listed with its form, its default and its description."""
    assert 0 == runopts(parser().parse_args(["runopts", "docker"]))

    output = capsys.readouterr().out
    assert output.startswith("docker:\n")
    assert [] == [one.name for one in fields(Opts) if f"\n  {one.name}=" not in output]
    assert (
        "  pull_policy=always|if_possible|missing|never  (missing)\n      `missing` pulls" in output
    )
    assert "  quiet=true|false  (false)\n" in output


def test_run_options_of_a_swarm(capsys: pytest.CaptureFixture[str]) -> None:
    """The options that a swarm has are listed, and none that it refuses."""
    assert 0 == runopts(parser().parse_args(["runopts", "docker_swarm"]))

    output = capsys.readouterr().out
    assert output.startswith("docker_swarm:\n")
    assert "\n  image_repo=" in output
    assert [] == [
        name
        for name in ("privileged", "runtime", "ipc_mode", "checkpoint", "gpu_foreign")
        if f"\n  {name}=" in output
    ]


def test_every_component_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Every component is listed, and a named one is shown with its help."""
    assert 0 == builtins(parser().parse_args(["builtins"]))
    listed = capsys.readouterr().out
    assert 0 == builtins(parser().parse_args(["builtins", "dist.ddp"]))
    one = capsys.readouterr().out

    assert [] == [name for name in components.names() if f"{name} " not in listed]
    assert "usage: dist.ddp" in one
    assert "--script" in one


@pytest.mark.usefixtures("own_modules")
def test_source_of_a_component(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The flag --print prints a component's source, which is a component file, as in TorchX."""
    assert 0 == builtins(parser().parse_args(["builtins", "--print", "utils.echo"]))
    file = tmp_path / "my.py"
    file.write_text(capsys.readouterr().out)

    words = ["--msg", "hello", "--image", "i"]
    assert components.parse("utils.echo", words) == components.parse(f"{file}:echo", words)
