"""Extracts the source of a function, the only part of it that is copied to a container."""

from __future__ import annotations
import __future__

import ast
import builtins
import dis
import inspect
import os
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.errors import FunctionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Decorators that Airflow allows on top of a task.
_TASK_DECORATORS: Final = frozenset({"torchx", "torchx_task", "setup", "teardown"})
_TASK_DECORATORS_OF_TASK: Final = frozenset({"skip_if", "run_if"})
_READS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_WRITES: Final = frozenset({"STORE_GLOBAL", "STORE_NAME"})


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionSource:
    """Holds the source of a function and the file that defines it."""

    name: str
    #: Its definition without decorators, as a module.
    text: str
    file: str
    #: Line of the file where ``text`` begins.
    line: int
    #: Whether the file has ``from __future__ import annotations``.
    lazy_annotations: bool

    @classmethod
    def of(cls, function: Callable[..., Any]) -> FunctionSource:
        """Read the source of a function.

        Raises:
            FunctionError: the function cannot run in a container; see `ensure_portable`.
        """
        plain = ensure_portable(function)
        lines, first = _lines(plain)
        is_inner = lines[0][:1].isspace()
        head = ["if True:\n"] if is_inner else []
        definition = _definition(plain, "".join([*head, *lines]))
        _check_decorators(plain, definition.decorator_list)
        _check_names(plain, _names_in(definition.args))
        skipped = definition.lineno - 1 - len(head)
        return cls(
            name=plain.__name__,
            text="".join([*head, *lines[skipped:]]),
            file=plain.__code__.co_filename,
            line=first + skipped - len(head),
            lazy_annotations=bool(plain.__code__.co_flags & __future__.annotations.compiler_flag),
        )

    def file_below(self, folder: str | None) -> str:
        """Return the file's path relative to ``folder`` if the folder contains it."""
        inside = os.path.join(folder, "") if folder else ""  # noqa: PTH118 - ends with a slash
        return self.file.removeprefix(inside)


def ensure_portable(function: Callable[..., Any]) -> FunctionType:
    """Return the function if its source alone can run in a container; reads no file.

    Raises:
        FunctionError: the function is not a plain one, or uses names from outside it.
    """
    if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
        what = f"{function!r} cannot run in a container: it is not defined with def"
        raise FunctionError(what, fix="Define a function with def.")
    if hasattr(function, "__wrapped__"):
        what = f"{_describe(function)} is wrapped by a decorator, which the container does not have"
        raise FunctionError(what, fix="Remove the decorator, or use it inside the function.")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        what = f"{_describe(function)} is async, but the container has no event loop"
        raise FunctionError(what, fix="Make it a plain function that calls asyncio.run().")
    if free := ", ".join(function.__code__.co_freevars):
        what = f"{_describe(function)} uses {free} of its enclosing function, "
        what += "which the container does not have"
        raise FunctionError(what, fix="Pass it as an argument, or define it inside the function.")
    _check_names(function, _global_names(function))
    return function


def _describe(function: FunctionType) -> str:
    code = function.__code__
    return f"function {function.__name__}() (line {code.co_firstlineno} of {code.co_filename})"


def _lines(function: FunctionType) -> tuple[list[str], int]:
    try:
        return inspect.getsourcelines(function)
    except OSError as error:
        what = f"cannot read the source of {_describe(function)}: {error}"
        raise FunctionError(what, fix="Define it in a file that the worker has.") from error


def _definition(function: FunctionType, text: str) -> ast.FunctionDef:
    try:
        found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    except SyntaxError:
        found = []
    if not found or found[0].name != function.__name__:
        what = f"cannot read the source of {_describe(function)}: its file has changed"
        raise FunctionError(what, fix="Run the task again after Airflow has parsed the DAG again.")
    return found[0]


def _check_decorators(function: FunctionType, decorators: Sequence[ast.expr]) -> None:
    others = [f"@{ast.unparse(each)}" for each in decorators if not _is_task_decorator(each)]
    if others:
        what = f"{_describe(function)} has decorators that the container does not have: "
        what += ", ".join(others)
        fix = "Remove it, or use it inside the function; only @task.torchx may decorate it."
        raise FunctionError(what, fix=fix)


def _is_task_decorator(decorator: ast.expr) -> bool:
    if isinstance(decorator, ast.Call):
        return _is_task_decorator(decorator.func)
    if isinstance(decorator, ast.Attribute):
        return decorator.attr in _TASK_DECORATORS | _TASK_DECORATORS_OF_TASK
    return isinstance(decorator, ast.Name) and decorator.id in _TASK_DECORATORS


def _check_names(function: FunctionType, used: set[str]) -> None:
    missing = used - {function.__name__} - set(dir(builtins))
    if missing:
        names = ", ".join(sorted(missing))
        what = (
            f"{_describe(function)} uses {names} of its module, which the container does not have"
        )
        fix = "Import or define it inside the function, or pass it as an argument."
        raise FunctionError(what, fix=fix)


def _global_names(function: FunctionType) -> set[str]:
    """Return the global names that a function and its inner functions read but never set."""
    codes = list(_codes(function.__code__))
    steps = [step for code in codes for step in dis.get_instructions(code)]
    read = {str(step.argval) for step in steps if step.opname in _READS}
    written = {str(step.argval) for step in steps if step.opname in _WRITES}
    return {name for name in read - written if not name.startswith("__")}


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)


def _names_in(arguments: ast.arguments) -> set[str]:
    """Return the names in the defaults, which the container evaluates at definition."""
    defaults = [each for each in (*arguments.defaults, *arguments.kw_defaults) if each is not None]
    nodes = [node for default in defaults for node in ast.walk(default)]
    return {node.id for node in nodes if isinstance(node, ast.Name)}
