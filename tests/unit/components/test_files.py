"""Tests components in users' files and modules."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from airflow_torchx import components
from airflow_torchx.errors import ComponentError
from airflow_torchx.specs import AppDef, Role

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = '''\
from __future__ import annotations

from dataclasses import dataclass

from airflow_torchx.specs import AppDef, Role
from my_constants import IMAGE

@dataclass
class Arguments:
    all: list[str]

def train(*args: str, name: str, cpu: float = 1) -> AppDef:
    """Train a model."""
    arguments = Arguments([str(cpu), *args])
    return AppDef(name, [Role("r", IMAGE, entrypoint="e", args=arguments.all)])

class Trainer:
    def __init__(self, name: str) -> None:
        self.name = name
    def build(self) -> AppDef:
        return AppDef(self.name)

def helper() -> str:
    return ""

LIMIT = 3
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with a file of components, which is not a package."""
    path, modules = [*sys.path], {*sys.modules}
    tmp_path.joinpath("mine.py").write_text(GOOD)
    tmp_path.joinpath("my_constants.py").write_text("IMAGE = 'img'\n")

    yield tmp_path

    sys.path[:] = path
    for name in {*sys.modules} - modules:
        del sys.modules[name]


def test_function_in_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path may be absolute, relative to the given folder, or relative to the current folder."""
    arguments = ["--name", "n", "--cpu", "0.5", "--", "--x"]
    expected = AppDef("n", [Role("r", "img", entrypoint="e", args=["0.5", "--x"])])

    assert expected == components.parse(f"{folder}/mine.py:train", arguments)
    assert expected == components.parse("mine.py:train", arguments, folder=folder)
    assert expected == components.parse(
        f"{folder.name}/mine.py:train", arguments, folder=folder.parent
    )
    monkeypatch.chdir(folder)
    assert expected == components.parse("./mine.py:train", arguments)
    assert expected == components.parse("mine.py:train", arguments)


def test_class_in_a_file(folder: Path) -> None:
    """A class is called with the arguments, and its build() returns the app."""
    name = f"{folder}/mine.py:Trainer"

    assert AppDef("n") == components.parse(name, ["--name", "n"])
    assert components.usage("Trainer", components.get(name)).startswith("usage: Trainer --name")


def test_function_in_a_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function in an importable module is found, and a missing module is an error."""
    monkeypatch.syspath_prepend(folder)

    assert "n" == components.parse("mine:train", ["--name", "n"]).name
    with pytest.raises(ComponentError, match=r"cannot import .*: ModuleNotFoundError: .*'no'"):
        components.get("no.such:train")


def test_file_is_reloaded(folder: Path) -> None:
    """A changed file is reloaded, even if its size and its second of change are the same."""
    file = folder / "mine.py"
    before = components.parse(f"{file}:train", ["--name", "n"])
    file.write_text(GOOD.replace("str(cpu)", "str('a')"))
    after = components.parse(f"{file}:train", ["--name", "n"])

    assert (("1",), ("a",)) == (before.roles[0].args, after.roles[0].args)
    assert not (folder / "__pycache__" / "mine.cpython-311.pyc").exists()


@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        ("gone.py:train", "/gone.py: No such file", "the DAG file's folder"),
        ("~nobody-like-that/x.py:train", "/x.py: No such file", "Correct the path."),
        ("mine.py:trian", "no function 'trian' in mine.py", "Did you mean 'train'?"),
        ("mine.py:zzzzz", "no function 'zzzzz' in mine.py", "Correct the name."),
        ("mine.py:helper", "it is not annotated to return an AppDef", "name(...) -> AppDef"),
        ("mine.py:LIMIT", "it is 3", "name(...) -> AppDef"),
        ("mine.py:Arguments", "it is not annotated to return an", "build(self) -> AppDef"),
    ],
)
def test_other_names_are_rejected(folder: Path, name: str, what: str, fix: str) -> None:
    """A name that is not a component is rejected with the reason and a fix."""
    with pytest.raises(ComponentError) as caught:
        components.get(name, folder=folder)

    assert what in caught.value.what
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("x = 1\nimport no_such_module\n", "ModuleNotFoundError: No module named 'no_such_mod", 2),
        ("x = 1\n\ndef f(:\n", "SyntaxError: ", 3),
        ("def f():\n    return 1 / 0\n\nf()\n", "ZeroDivisionError: division by zero", 2),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3", 2),
    ],
)
def test_file_that_cannot_be_loaded(folder: Path, text: str, what: str, line: int) -> None:
    """The error shows the exception and its line in the file."""
    file = folder / "broken.py"
    file.write_text(text)

    with pytest.raises(ComponentError, match="cannot load component") as caught:
        components.get(f"{file}:f")

    assert what in caught.value.what
    assert f"({file}, line {line})" in caught.value.what


def test_parameter_without_a_type(folder: Path) -> None:
    """A parameter without a type is rejected when the arguments are parsed."""
    file = folder / "untyped.py"
    file.write_text("from airflow_torchx.specs import AppDef\ndef f(a) -> AppDef: ...\n")

    with pytest.raises(ComponentError, match=r"'a' of component '.*untyped.py:f' has an unsupp"):
        components.parse(f"{file}:f", ["--a", "1"])


def test_annotations_may_be_strings(folder: Path) -> None:
    """String annotations are evaluated, and this package's __future__ flags do not apply."""
    file = folder / "texts.py"
    file.write_text(
        "from airflow_torchx.specs import AppDef\n"
        "def f(a: 'int') -> 'AppDef': return AppDef(repr((a, f.__annotations__['a'])))\n"
    )

    assert "(1, 'int')" == components.parse(f"{file}:f", ["--a", "1"]).name


def test_component_that_returns_something_else(folder: Path) -> None:
    """A component that returns anything but an AppDef is an error, whatever its annotation."""
    file = folder / "liar.py"
    file.write_text("from airflow_torchx.specs import AppDef\ndef f() -> AppDef:\n    return 3\n")

    with pytest.raises(ComponentError, match="returned int instead of an AppDef"):
        components.parse(f"{file}:f", [])
