"""The numbers that the house promises, counted; a failed test lists what breaks one."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

import airflow_torchx

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE: Final = Path(airflow_torchx.__file__).parent
#: Airflow configures a task with the arguments of these.
FACE: Final = {"operators.py", "sensors.py", "decorators.py", "triggers.py", "hooks.py"}
MODULES: Final = {
    str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    """Yield every function with its module."""
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield module, node


def body_lines(function: Function) -> int:
    """Return the lines of a function without its signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def parameters(function: Function) -> int:
    """Return the number of parameters of a method without ``self``."""
    return len(function.args.args) + len(function.args.kwonlyargs) - 1


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler catches every error."""
    return handler.type is None or ast.unparse(handler.type) in {"Exception", "BaseException"}


def raises_again(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler ends with a raise of its error, or of another one from it."""
    last = handler.body[-1]
    if not isinstance(last, ast.Raise):
        return False
    return last.exc is None or (last.cause is not None and ast.unparse(last.cause) == handler.name)


def test_modules_have_400_lines_at_most() -> None:
    """A module of more than 400 lines has more than one subject; look for the second one."""
    lines = {module: len((PACKAGE / module).read_text().splitlines()) for module in MODULES}

    assert {} == {module: count for module, count in lines.items() if count > 400}


def test_function_bodies_have_40_lines_at_most() -> None:
    """The body of a function, without its docstring, has 40 lines at most."""
    assert [] == [(module, f.name) for module, f in functions() if body_lines(f) > 40]


def test_constructors_have_8_parameters_at_most() -> None:
    """A constructor has 8 parameters at most, except where Airflow configures a task with them."""
    constructors = [(module, f) for module, f in functions() if f.name == "__init__"]

    assert [] == [
        (module, f.lineno) for module, f in constructors if module not in FACE and parameters(f) > 8
    ]


def test_a_broad_handler_raises_again() -> None:
    """A handler of every error ends with a raise, of this error or of one that it causes."""
    handlers = [
        (module, node)
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and is_broad(node)
    ]

    assert [] == [
        (module, handler.lineno) for module, handler in handlers if not raises_again(handler)
    ]


def test_airflows_internals_have_one_door() -> None:
    """Only `airflow_compat` imports what Airflow does not promise to keep."""
    internal = ("airflow.sdk.execution_time", "airflow.sdk.api", "airflow.models")
    doors = {
        module
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(internal)
    }

    assert {"airflow_compat.py"} == doors
