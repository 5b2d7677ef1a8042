"""Extracts a component from its module, for users who start their own from it."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from typing import TYPE_CHECKING, Any

from airflow_torchx.errors import ComponentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Comments for the linters of this package.
_NOQA = re.compile(r"[ ]+# noqa.*$", re.MULTILINE)


def source_of(name: str, function: Callable[..., Any]) -> str:
    """Return a module with a component, and with the imports and definitions that it needs.

    Args:
        name: name of the component, for messages.
        function: the component.

    Raises:
        ComponentError: its module has no source file.
    """
    try:
        text = inspect.getsource(sys.modules[function.__module__])
    except (KeyError, OSError, TypeError) as error:
        raise ComponentError(f"cannot read the source of component {name!r}: {error}") from error
    statements = ast.parse(text).body
    needed = _needed(function.__name__, statements)
    lines = text.splitlines()
    parts = [_text(one, needed, lines) for one in statements if needed & {*_bound(one)}]
    body = "\n".join(part for part in parts if part)
    return _NOQA.sub("", f"{body.strip()}\n")


def _needed(name: str, statements: list[ast.stmt]) -> set[str]:
    """Return the names of a module that one of them needs, itself and ``annotations`` included."""
    by_name = {bound: one for one in statements for bound in _bound(one)}
    needed, left = {"annotations"}, [name]
    while left:
        one = by_name.get(found := left.pop())
        if found in needed or one is None:
            continue
        needed.add(found)
        if not isinstance(one, ast.Import | ast.ImportFrom):
            left += _names(one)
    return needed


def _names(tree: ast.AST) -> Iterator[str]:
    """Yield the names in a statement or expression, also those in annotations that are texts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            for text in ast.walk(annotation) if annotation else ():
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield from re.findall(r"\w+", text.value)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement of a module defines."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from map(_bound_by, names)
        case ast.Assign() | ast.AnnAssign():
            stored = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
            yield from (node.id for node in stored if isinstance(node.ctx, ast.Store))
        case ast.If(body=body, orelse=rest) | ast.Try(body=body, orelse=rest):
            for inner in (*body, *rest):
                yield from _bound(inner)
        case _:
            pass


def _bound_by(imported: ast.alias) -> str:
    return (imported.asname or imported.name).partition(".")[0]


def _text(statement: ast.stmt, needed: set[str], lines: list[str]) -> str:
    """Return the source of a statement with its comment, and of an import only what is needed."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        statement.names = [one for one in statement.names if _bound_by(one) in needed]
        return ast.unparse(statement)
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(one.lineno for one in decorators)])
    while first > 1 and lines[first - 2].startswith("#"):
        first -= 1
    text = "\n".join(lines[first - 1 : statement.end_lineno])
    is_long = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    return f"\n\n{text}" if is_long else f"\n{text}"
