"""Our components and TorchX's make the same apps of the same command lines."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from airflow_torchx import components
from airflow_torchx.errors import AirflowTorchXError
from airflow_torchx.specs import to_dict
from tests.integration.component_lines import (
    BAD,
    GOOD,
    OTHERWISE,
    REPEATED_WORDS,
    STRICTER,
)

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = ROOT / ".venv-torchx" / "bin" / "python"

ALL: Final = [*GOOD, *BAD, *STRICTER, *OTHERWISE, *REPEATED_WORDS]
#: TorchX's default image, which is no longer published; we have none and ask for one.
IMAGE: Final = {None: ""}


@pytest.fixture(scope="module")
def torchx() -> dict[str, dict[str, Any]]:
    """Return what TorchX made of each command line."""
    ran = subprocess.run(
        [PYTHON, Path(__file__).with_name("torchx_side.py")],
        input=json.dumps([shlex.split(line) for line in ALL]),
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == ran.returncode, ran.stderr
    return dict(zip(ALL, json.loads(ran.stdout), strict=True))


def ours(line: str) -> dict[str, Any]:
    """Return the app that we make of a command line."""
    name, *words = shlex.split(line)
    return to_dict(components.parse(name, words))


def theirs(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the app that TorchX made, but for intended differences."""
    app: dict[str, Any] = answer["app"]
    for role in app["roles"]:
        role["image"] = IMAGE.get(role["image"], role["image"])
        assert {} == role.pop("overrides")
    return app


@pytest.mark.parametrize("line", GOOD)
def test_same_app(line: str, torchx: dict[str, dict[str, Any]]) -> None:
    """Our component and TorchX's return the same app, field by field."""
    assert torchx[line]["accepted"]
    assert theirs(torchx[line]) == ours(line)


@pytest.mark.parametrize("line", BAD)
def test_what_torchx_refuses_we_refuse(line: str, torchx: dict[str, dict[str, Any]]) -> None:
    """Our component refuses what TorchX's refuses, with an error of ours."""
    assert not torchx[line]["accepted"] or "error" in torchx[line]
    with pytest.raises(AirflowTorchXError):
        ours(line)


@pytest.mark.parametrize("line", STRICTER)
def test_where_we_are_stricter(line: str, torchx: dict[str, dict[str, Any]]) -> None:
    """Our component is stricter than TorchX's only where the list gives a reason."""
    assert "app" in torchx[line]
    with pytest.raises(AirflowTorchXError):
        ours(line)


@pytest.mark.parametrize("line", OTHERWISE)
def test_where_we_differ(line: str, torchx: dict[str, dict[str, Any]]) -> None:
    """Our component makes another app than TorchX's only where the list gives a reason."""
    assert theirs(torchx[line]) != ours(line)


@pytest.mark.parametrize("line", REPEATED_WORDS)
def test_words_of_the_program_may_repeat(line: str, torchx: dict[str, dict[str, Any]]) -> None:
    """The program's arguments may repeat, as through TorchX's Python API."""
    assert not torchx[line]["accepted"]
    assert theirs(torchx[line]) == ours(line)


def test_every_component_is_in_the_table() -> None:
    """The table has good and bad command lines for every component."""
    for lines in (GOOD, BAD):
        assert {*components.names()} <= {line.split()[0] for line in lines}
    assert len({*GOOD, *BAD}) >= 80
