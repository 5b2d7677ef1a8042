"""The text of a function, which is all of it that gets into a container."""

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

# What Airflow itself lets stand on top of a decorated task.
_TASK_DECORATORS: Final = frozenset({"torchx", "torchx_task", "setup", "teardown"})
_TASK_DECORATORS_OF_TASK: Final = frozenset({"skip_if", "run_if"})
_READS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_WRITES: Final = frozenset({"STORE_GLOBAL", "STORE_NAME"})


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionSource:
    """A function as text.

    Args:
        name: name of the function.
        text: its definition without decorators; a module of its own.
        file: the file that it stands in.
        line: line of that file in which ``text`` begins.
        lazy_annotations: that file has ``from __future__ import annotations``.
    """

    name: str
    text: str
    file: str
    line: int
    lazy_annotations: bool

    @classmethod
    def of(cls, function: Callable[..., Any]) -> FunctionSource:
        """Read the text of a function.

        Raises:
            FunctionError: it cannot run anywhere else, and why; see `ensure_portable`.
        """
        plain = ensure_portable(function)
        lines, first = _lines(plain)
        is_inner = lines[0][:1].isspace()
        head = ["if True:\n"] if is_inner else []
        definition = _definition(plain, "".join([*head, *lines]))
        _refuse_decorators(plain, definition.decorator_list)
        _refuse_names(plain, _names_in(definition.args))
        skipped = definition.lineno - 1 - len(head)
        return cls(
            name=plain.__name__,
            text="".join([*head, *lines[skipped:]]),
            file=plain.__code__.co_filename,
            line=first + skipped - len(head),
            lazy_annotations=bool(plain.__code__.co_flags & __future__.annotations.compiler_flag),
        )

    def file_below(self, folder: str | None) -> str:
        """Return the file as seen from a folder, or its path where it lies somewhere else."""
        inside = os.path.join(folder, "") if folder else ""  # noqa: PTH118 - ends with a slash
        return self.file.removeprefix(inside)


def ensure_portable(function: Callable[..., Any]) -> FunctionType:
    """Return a function of which nothing is missing where only its text is; reads no file.

    Raises:
        FunctionError: it is no plain function, or needs names from around it, and which.
    """
    if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
        what = f"{function!r} cannot run in a container: it is no function made with def."
        raise FunctionError(what, fix="Define a function that does it.")
    if hasattr(function, "__wrapped__"):
        what = f"{_told(function)} is wrapped by a decorator, which stays behind."
        raise FunctionError(what, fix="Take the decorator off, or use it inside of the function.")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        what = f"{_told(function)} is async, and there is no event loop."
        raise FunctionError(what, fix="Make it a plain function that calls asyncio.run().")
    around = function.__code__.co_freevars
    if around:
        names = ", ".join(around)
        what = f"{_told(function)} uses {names} of the function around it, which stays behind."
        raise FunctionError(what, fix="Give it as an argument, or define it inside.")
    _refuse_names(function, _global_names(function))
    return function


def _told(function: FunctionType) -> str:
    code = function.__code__
    return f"function {function.__name__}() (line {code.co_firstlineno} of {code.co_filename})"


def _lines(function: FunctionType) -> tuple[list[str], int]:
    try:
        return inspect.getsourcelines(function)
    except OSError as why:
        what = f"the text of {_told(function)} cannot be read: {why}."
        raise FunctionError(what, fix="Define it in a file that the worker has.") from why


def _definition(function: FunctionType, text: str) -> ast.FunctionDef:
    try:
        found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    except SyntaxError:
        found = []
    if not found or found[0].name != function.__name__:
        what = f"the text of {_told(function)} is no definition of it: its file has changed."
        raise FunctionError(what, fix="Run the task again, once the DAG is parsed anew.")
    return found[0]


def _refuse_decorators(function: FunctionType, decorators: Sequence[ast.expr]) -> None:
    others = [f"@{ast.unparse(each)}" for each in decorators if not _is_of_task(each)]
    if others:
        what = f"{_told(function)} has {', '.join(others)} on it, which stays behind."
        fix = "Take it off, or use it inside of the function; @task.torchx is written like that."
        raise FunctionError(what, fix=fix)


def _is_of_task(decorator: ast.expr) -> bool:
    if isinstance(decorator, ast.Call):
        return _is_of_task(decorator.func)
    if isinstance(decorator, ast.Attribute):
        return decorator.attr in _TASK_DECORATORS | _TASK_DECORATORS_OF_TASK
    return isinstance(decorator, ast.Name) and decorator.id in _TASK_DECORATORS


def _refuse_names(function: FunctionType, names: set[str]) -> None:
    missing = names - {function.__name__} - set(dir(builtins))
    if missing:
        what = (
            f"{_told(function)} uses {', '.join(sorted(missing))} of the module around it, "
            "which stays behind."
        )
        fix = "Import or define it inside of the function, or give it as an argument."
        raise FunctionError(what, fix=fix)


def _global_names(function: FunctionType) -> set[str]:
    """Return the names that a function and those in it read, and that none of them sets."""
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
    """Return the names in the defaults, which are looked up where the function is defined."""
    defaults = [each for each in (*arguments.defaults, *arguments.kw_defaults) if each is not None]
    nodes = [node for default in defaults for node in ast.walk(default)]
    return {node.id for node in nodes if isinstance(node, ast.Name)}
