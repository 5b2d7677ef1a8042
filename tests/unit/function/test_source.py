"""Tests the extraction of a function's source, and functions that need more than it."""

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
    """Decorate a function without changing it, as Airflow does."""
    return lambda function: function


def other(function: Any) -> Any:  # noqa: ANN401 - any function
    """Decorate a function with something else than a task decorator."""
    return function


class task:  # noqa: N801 - Airflow's name
    """Replaces Airflow's decorators."""

    torchx = staticmethod(torchx)


@task.torchx(
    image="busybox",
)
# A comment between decorator and function.
def train(epochs: int, *, lr: float = 0.1) -> float:
    """Train."""
    # This comment stays, so that line numbers are right.
    return epochs * lr


def line_of(text: str) -> int:
    """Return the number of this file's first line that begins with a text."""
    lines = Path(__file__).read_text().splitlines()
    return 1 + next(i for i, line in enumerate(lines) if line.startswith(text))


def test_text_is_the_definition_without_its_decorators() -> None:
    """The source starts at the def line of the user's file, and keeps its comments."""
    source = FunctionSource.of(train)

    assert "train" == source.name
    assert source.text.startswith("def train(epochs: int, *, lr: float = 0.1) -> float:\n")
    assert source.text.endswith("line numbers are right.\n    return epochs * lr\n")
    assert line_of("def train(") == source.line
    assert __file__ == source.file
    assert source.lazy_annotations


def test_function_in_a_function_is_a_module_too() -> None:
    """An inner function is extracted, even if a string of it has unindented lines."""

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


def test_decorator_is_not_part_of_the_text() -> None:
    """Changed arguments of the decorator leave the source, and so the image, unchanged."""
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
def test_file_below_folder(folder: str | None, expected: str) -> None:
    """A file below the folder has a relative path, and any other its whole path."""
    source = FunctionSource(name="f", text="", file="/dags/a/b.py", line=1, lazy_annotations=False)

    assert expected == source.file_below(folder)


def test_names_defined_inside_are_portable() -> None:
    """A function may use its own imports, classes and functions, builtins, and itself."""

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
    ("function", "message"),
    [
        pytest.param(_closure(), "uses around of its enclosing function", id="closure"),
        pytest.param(_wrapped(), "is wrapped by a decorator", id="wrapped"),
        pytest.param(_later, "is async", id="async"),
        pytest.param(lambda: 1, "not defined with def", id="lambda"),
        pytest.param(print, "not defined with def", id="builtin"),
        pytest.param(_global, "uses LR, json of its module", id="global"),
    ],
)
def test_function_that_needs_more_than_its_source(
    function: Callable[..., Any], message: str
) -> None:
    """The error names what the container does not have, and a fix."""
    with pytest.raises(FunctionError, match=message) as caught:
        ensure_portable(function)

    assert caught.value.fix


def test_default_from_the_module() -> None:
    """A default that uses a name of the module is rejected, as the container evaluates it."""

    def train(lr: float = LR) -> float:
        return lr

    with pytest.raises(FunctionError, match="uses LR of its module"):
        FunctionSource.of(train)


def test_other_decorator() -> None:
    """A decorator that is not a task's is rejected, even if it returns the function unchanged."""

    @task.torchx()
    @other
    def train() -> int:
        return 1

    with pytest.raises(FunctionError, match=r"does not have: @other"):
        FunctionSource.of(train)


def test_function_without_a_file() -> None:
    """A function that is not defined in a file is rejected."""
    names: dict[str, Any] = {}
    exec("def typed(): pass", names)  # noqa: S102 - what is tested

    with pytest.raises(FunctionError, match=r"cannot read the source of function typed\(\)"):
        FunctionSource.of(names["typed"])


def test_file_that_has_changed() -> None:
    """A file that changed since the DAG was parsed is an error."""
    lines = ["def two(): pass\n"]
    names: dict[str, Any] = {}
    exec(compile("def one(): pass", "<changed>", "exec"), names)  # noqa: S102 - what is tested
    linecache.cache["<changed>"] = (1, None, lines, "<changed>")

    with pytest.raises(FunctionError, match="its file has changed"):
        FunctionSource.of(names["one"])
