"""Tests the source of components, from which users start their own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from airflow_torchx import components
from airflow_torchx.components.source import source_of
from airflow_torchx.errors import ComponentError
from airflow_torchx.specs import AppDef

if TYPE_CHECKING:
    from pathlib import Path

#: A command line for each component.
LINES = {
    "dist.ddp": "-j 2x1 --script a.py --debug True --mounts type=bind,src=/a,dst=/b -- --lr 1",
    "dist.spmd": "-j 2 -h gpu.medium --m a.b",
    "dist.torchrun": "-j 1:3x2 --m a.b --name exp/run",
    "utils.binary": "--entrypoint ls -- -l",
    "utils.booth": "--x1 1 --x2 2",
    "utils.copy": "--src a --dst b",
    "utils.echo": "--msg hi",
    "utils.python": "-m a.b",
    "utils.sh": "--num_replicas 2 ls",
    "utils.touch": "--file a",
}
OWN = """\
import json, os
import typing as t
from dataclasses import dataclass as data
from airflow_torchx.specs import AppDef, Role

try:
    from fast import dumps
except ImportError:
    from json import dumps

# What everyone
# runs.
PROGRAM = "sh"
unused = other = os.sep


@data
class Base:
    name: "t.Optional[str]"

class Trainer(Base):
    def build(self) -> "AppDef":
        return AppDef(self.name, [Role("r", "i", entrypoint=PROGRAM, args=[dumps(other)])])
"""


@pytest.mark.usefixtures("own_modules")
@pytest.mark.parametrize("name", components.COMPONENTS)
def test_printed_component_builds_the_same_app(name: str, tmp_path: Path) -> None:
    """The printed source of a component is a module in which the component works the same."""
    words, file = LINES[name].split(), tmp_path / "mine.py"
    file.write_text(source_of(name, components.get(name)))

    own = components.parse(f"{file}:{name.partition('.')[2]}", words)

    assert components.parse(name, words) == own
    assert "noqa" not in file.read_text()


def test_only_what_is_needed_is_printed() -> None:
    """Imports and definitions that the component does not need are left out."""
    echo = source_of("utils.echo", components.get("utils.echo"))

    assert echo.startswith("from __future__ import annotations\n")
    assert "\nfrom airflow_torchx.specs import AppDef, Resource, Role\n" in echo
    assert "\n_SMALL: Final = Resource(cpu=1, gpu=0, memMB=1024)\n" in echo
    assert ["def echo"] == [line[:8] for line in echo.splitlines() if line.startswith("def ")]


@pytest.mark.usefixtures("own_modules")
def test_class_of_a_user(tmp_path: Path) -> None:
    """A class in a user's file is printed with its base, its constants and their comments."""
    file, copy = tmp_path / "theirs.py", tmp_path / "copy.py"
    file.write_text(OWN)

    copy.write_text(source_of("t", components.get(f"{file}:Trainer")))

    text = copy.read_text()
    assert text.startswith("import os\nimport typing as t\nfrom dataclasses import dataclass as ")
    assert '\n# What everyone\n# runs.\nPROGRAM = "sh"\n' in text
    assert "\nunused = other = os.sep\n\n\n@data\nclass Base:" in text
    assert components.parse(f"{file}:Trainer", ["--name", "n"]) == components.parse(
        f"{copy}:Trainer", ["--name", "n"]
    )


def test_component_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A component that was typed into an interpreter has no source, which is an error."""
    space: dict[str, object] = {"AppDef": AppDef, "__name__": "typed"}
    exec("def f() -> AppDef: ...", space)  # noqa: S102 - as an interpreter does
    monkeypatch.setitem(sys.modules, "typed", type(sys)("typed"))

    with pytest.raises(ComponentError, match="cannot read the source of component 'f'"):
        source_of("f", space["f"])  # type: ignore[arg-type]
