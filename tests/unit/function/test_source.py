"""The text of a function, and functions that are more than their text."""

from __future__ import annotations

import asyncio
import functools
import json
import linecache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.errors import FunctionError
from airflow_torchx.function.source import FunctionSource, ensure_portable

if TYPE_CHECKING:
    from collections.abc import Callable

LR = 0.1


def torchx(**_arguments: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - any function
    """Decorate a function as Airflow does: it stays what it is."""
    return lambda function: function


def other(function: Any) -> Any:  # noqa: ANN401 - any function
    """Decorate a function with what is no task decorator."""
    return function


class task:  # noqa: N801 - Airflow's name
    """Stands for Airflow's decorators."""

    torchx = staticmethod(torchx)


@task.torchx(
    image="busybox",
)
# Why it does so.
def train(epochs: int, *, lr: float = 0.1) -> float:
    """Train."""
    # The comment stays, so that lines are counted right.
    return epochs * lr


def line_of(text: str) -> int:
    """Return the first line of this file that begins with a text."""
    lines = Path(__file__).read_text().splitlines()
    return 1 + next(i for i, line in enumerate(lines) if line.startswith(text))


def test_text_is_the_definition_without_its_decorators() -> None:
    """The line is that of the definition in the user's file; comments in it stay."""
    source = FunctionSource.of(train)

    assert "train" == source.name
    assert source.text.startswith("def train(epochs: int, *, lr: float = 0.1) -> float:\n")
    assert source.text.endswith("lines are counted right.\n    return epochs * lr\n")
    assert line_of("def train(") == source.line
    assert __file__ == source.file
    assert source.lazy_annotations


def test_function_in_a_function_is_a_module_too() -> None:
    """A text that begins further left, as in a string of several lines, does no harm."""

    @task.torchx()
    def inner() -> str:
        return """a
b"""

    source = FunctionSource.of(inner)
    names: dict[str, Any] = {}
    exec(source.text, names)  # noqa: S102 - the text under test

    assert "if True:\n    def inner() -> str:\n" == source.text[:33]
    assert "a\nb" == names["inner"]()
    assert line_of("    def inner(") - 1 == source.line


def test_another_way_to_write_the_decorator_is_the_same_text() -> None:
    """So a new argument of the task builds no new image."""
    text = "def go():\n    return 1\n"
    texts = set()
    for head in ("@task.torchx(image='x', cpu=1)\n", "@task.torchx(\n  image='x',\n)\n# Hi\n"):
        code = compile(head + text, "<made>", "exec")
        linecache.cache["<made>"] = (1, None, (head + text).splitlines(keepends=True), "<made>")
        names = {"task": task}
        exec(code, names)  # noqa: S102 - as a DAG file would
        texts.add(FunctionSource.of(names["go"]).text)

    assert {text} == texts


@pytest.mark.parametrize(
    ("folder", "expected"),
    [("/dags", "a/b.py"), ("/dags/", "a/b.py"), ("/da", "/dags/a/b.py"), (None, "/dags/a/b.py")],
)
def test_file_is_told_as_seen_from_a_folder(folder: str | None, expected: str) -> None:
    """A file elsewhere is told with its whole path."""
    source = FunctionSource(name="f", text="", file="/dags/a/b.py", line=1, lazy_annotations=False)

    assert expected == source.file_below(folder)


def test_names_that_a_function_makes_itself_are_its_own() -> None:
    """Imports, classes, functions in it, builtins and itself need nothing from around it."""

    def whole(size: int = len("")) -> LR:  # type: ignore[valid-type]
        import math

        global made  # noqa: PLW0603 - what is tested

        class Net:
            width = 3
            depth = width + 1

        def area() -> int:
            return Net.width * math.floor(Net.depth)

        made = [area() for _ in range(size)]
        return made, __name__

    assert whole is ensure_portable(whole)


made: list[int] = []


def _closure() -> Callable[[], int]:
    around = 1

    def inner() -> int:
        return around

    return inner


def _wrapped() -> Callable[[], int]:
    def inner() -> int:
        return 1

    return functools.wraps(train)(inner)


async def _later() -> None:
    await asyncio.sleep(0)


def _global() -> str:
    def inner() -> str:
        return json.dumps(LR)

    return inner()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        pytest.param(_closure(), "uses around of the function around it", id="closure"),
        pytest.param(_wrapped(), "is wrapped by a decorator", id="wrapped"),
        pytest.param(_later, "is async", id="async"),
        pytest.param(lambda: 1, "no function made with def", id="lambda"),
        pytest.param(print, "no function made with def", id="builtin"),
        pytest.param(_global, "uses LR, json of the module around it", id="global"),
    ],
)
def test_function_that_is_more_than_its_text(function: Callable[..., Any], words: str) -> None:
    """What stays behind is named, with a way out, and no file is read for it."""
    with pytest.raises(FunctionError, match=words) as caught:
        ensure_portable(function)

    assert caught.value.fix


def test_default_that_is_not_there() -> None:
    """A default is looked up where the function is defined, which is in the container."""

    def train(lr: float = LR) -> float:
        return lr

    with pytest.raises(FunctionError, match="uses LR of the module around it"):
        FunctionSource.of(train)


def test_decorator_that_is_not_there() -> None:
    """Also one that leaves no trace at the function."""

    @task.torchx()
    @other
    def train() -> int:
        return 1

    with pytest.raises(FunctionError, match=r"has @other on it"):
        FunctionSource.of(train)


def test_function_without_a_file() -> None:
    """One that was typed in has no text."""
    names: dict[str, Any] = {}
    exec("def typed(): pass", names)  # noqa: S102 - what is tested

    with pytest.raises(FunctionError, match=r"text of function typed\(\).*cannot be read"):
        FunctionSource.of(names["typed"])


def test_file_that_has_changed() -> None:
    """A worker whose file is newer than the DAG says so."""
    lines = ["def two(): pass\n"]
    names: dict[str, Any] = {}
    exec(compile("def one(): pass", "<changed>", "exec"), names)  # noqa: S102 - what is tested
    linecache.cache["<changed>"] = (1, None, lines, "<changed>")

    with pytest.raises(FunctionError, match="its file has changed"):
        FunctionSource.of(names["one"])
