"""Components in files of users' own."""

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
from beside_it_all import IMAGE

@dataclass
class Words:
    all: list[str]

def train(*args: str, name: str, cpu: float = 1) -> AppDef:
    """Train a model."""
    words = Words([str(cpu), *args])
    return AppDef(name, [Role("r", IMAGE, entrypoint="e", args=words.all)])

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
    """Return a folder with a file of components, which is no package."""
    path, modules = [*sys.path], {*sys.modules}
    tmp_path.joinpath("mine.py").write_text(GOOD)
    tmp_path.joinpath("beside_it_all.py").write_text("IMAGE = 'img'\n")

    yield tmp_path

    sys.path[:] = path
    for name in {*sys.modules} - modules:
        del sys.modules[name]


def test_function_in_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an absolute path, by one relative to a folder, and by one relative to the current one."""
    words = ["--name", "n", "--cpu", "0.5", "--", "--x"]
    expected = AppDef("n", [Role("r", "img", entrypoint="e", args=["0.5", "--x"])])

    assert expected == components.parse(f"{folder}/mine.py:train", words)
    assert expected == components.parse("mine.py:train", words, folder=folder)
    assert expected == components.parse(f"{folder.name}/mine.py:train", words, folder=folder.parent)
    monkeypatch.chdir(folder)
    assert expected == components.parse("./mine.py:train", words)
    assert expected == components.parse("mine.py:train", words)


def test_class_in_a_file(folder: Path) -> None:
    """Is made of the arguments, and builds the app; its usage is that of the class."""
    name = f"{folder}/mine.py:Trainer"

    assert AppDef("n") == components.parse(name, ["--name", "n"])
    assert components.usage("Trainer", components.get(name)).startswith("usage: Trainer --name")


def test_function_in_a_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That Python can import; one that is missing, or cannot be imported, is told."""
    monkeypatch.syspath_prepend(folder)

    assert "n" == components.parse("mine:train", ["--name", "n"]).name
    with pytest.raises(ComponentError, match=r"cannot be imported: ModuleNotFoundError: .*'no'"):
        components.get("no.such:train")


def test_file_is_read_anew(folder: Path) -> None:
    """So that a change counts, even one within a second that leaves the length as it was."""
    file = folder / "mine.py"
    before = components.parse(f"{file}:train", ["--name", "n"])
    file.write_text(GOOD.replace("str(cpu)", "str('a')"))
    after = components.parse(f"{file}:train", ["--name", "n"])

    assert (("1",), ("a",)) == (before.roles[0].args, after.roles[0].args)
    assert not (folder / "__pycache__" / "mine.cpython-311.pyc").exists()


@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        ("gone.py:train", "gone.py cannot be read: No such file", "the folder of the DAG file"),
        ("~nobody-like-that/x.py:train", "cannot be read: No such file", "Correct the path."),
        ("mine.py:trian", "there is no function 'trian' in mine.py", "Did you mean 'train'?"),
        ("mine.py:zzzzz", "there is no function 'zzzzz' in mine.py", "Correct the name."),
        ("mine.py:helper", "it does not say that it returns an AppDef", "-> AppDef"),
        ("mine.py:LIMIT", "it is 3 and no function", "-> AppDef"),
        ("mine.py:Words", "it does not say that it returns an AppDef", "build(self) -> AppDef"),
    ],
)
def test_what_is_no_component(folder: Path, name: str, what: str, fix: str) -> None:
    """Is told with what it lacks and what to do."""
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
    """Is told with what was raised, and the line of the file."""
    file = folder / "broken.py"
    file.write_text(text)

    with pytest.raises(ComponentError, match="cannot be loaded") as caught:
        components.get(f"{file}:f")

    assert what in caught.value.what
    assert f"({file}, line {line})" in caught.value.what


def test_parameter_without_a_type(folder: Path) -> None:
    """Is told when the command line is read."""
    file = folder / "untyped.py"
    file.write_text("from airflow_torchx.specs import AppDef\ndef f(a) -> AppDef: ...\n")

    with pytest.raises(ComponentError, match=r"'a' of component '.*untyped.py:f' has an unread"):
        components.parse(f"{file}:f", ["--a", "1"])


def test_annotations_may_be_texts(folder: Path) -> None:
    """And what is in force here is not in force there."""
    file = folder / "texts.py"
    file.write_text(
        "from airflow_torchx.specs import AppDef\n"
        "def f(a: 'int') -> 'AppDef': return AppDef(repr((a, f.__annotations__['a'])))\n"
    )

    assert "(1, 'int')" == components.parse(f"{file}:f", ["--a", "1"]).name


def test_component_that_returns_something_else(folder: Path) -> None:
    """Is told, whatever it promises."""
    file = folder / "liar.py"
    file.write_text("from airflow_torchx.specs import AppDef\ndef f() -> AppDef:\n    return 3\n")

    with pytest.raises(ComponentError, match="returned int instead of an AppDef"):
        components.parse(f"{file}:f", [])
