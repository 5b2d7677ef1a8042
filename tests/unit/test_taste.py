"""The numbers that the house promises, counted."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import airflow_torchx

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE: Final = Path(airflow_torchx.__file__).parent
FACE: Final = {"operators.py", "sensors.py", "decorators.py", "triggers.py", "hooks.py"}
MODULES: Final = sorted(PACKAGE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef

each_module = pytest.mark.parametrize(
    "module", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES]
)


def functions(module: Path) -> Iterator[Function]:
    """Yield every function of a module."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, Function):
            yield node


def body_lines(function: Function) -> int:
    """Return the lines of a function without its signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


@each_module
def test_modules_have_300_lines_at_most(module: Path) -> None:
    """A longer one is two."""
    assert len(module.read_text().splitlines()) <= 300


@each_module
def test_function_bodies_have_40_lines_at_most(module: Path) -> None:
    """Docstrings do not count."""
    assert [f.name for f in functions(module) if body_lines(f) > 40] == []


@each_module
def test_constructors_have_8_parameters_at_most(module: Path) -> None:
    """Except where Airflow configures a task with them."""
    many = [
        f.name
        for f in functions(module)
        if f.name == "__init__" and len(f.args.args) + len(f.args.kwonlyargs) > 9
    ]

    assert module.name in FACE or many == []


@each_module
def test_a_broad_handler_raises_again(module: Path) -> None:
    """It undoes something; it never swallows."""
    swallowed = [
        node.lineno
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
        and not (isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None)
    ]

    assert swallowed == []


def test_nothing_is_mocked() -> None:
    """A fake that keeps the contract takes the place of mocks."""
    tests = PACKAGE.parent / "tests"
    mocking = [
        path.name
        for path in tests.rglob("*.py")
        if {"unittest.mock", "mock"} & _imported(ast.parse(path.read_text()))
    ]

    assert mocking == []


def _imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_importing_the_operators_imports_no_docker() -> None:
    """Parsing a DAG file stays cheap."""
    code = (
        "import sys, airflow.sdk; from airflow.sdk import BaseOperator, BaseHook\n"
        "before = set(sys.modules)\n"
        "import airflow_torchx.operators, airflow_torchx.sensors\n"
        "late = {'docker', 'torchx', 'torch', 'rich', 'yaml', 'requests', 'filelock'}\n"
        "print(sorted(late & (set(sys.modules) - before)))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]

    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert answer.splitlines()[-1] == "[]"


def test_provider_info_imports_no_airflow() -> None:
    """Airflow's discovery reads it in every process."""
    code = (
        "import sys, airflow_torchx.provider as p; p.get_provider_info()\n"
        "print(sorted({'airflow', 'docker', 'yaml'} & set(sys.modules)))"
    )

    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout

    assert answer == "[]\n"
