"""Renders the help of a component from its signature and docstring."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.components.arguments import (
    annotation_of,
    options_of,
    signature_of,
    synopsis,
)
from airflow_torchx.components.literals import UnsupportedTypeError, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ARGUMENTS: Final = re.compile(r"(Args|Arguments):\s*$")
_ENTRY: Final = re.compile(r"\*{0,2}(\w+)(?:\s*\([^)]*\))?:(.*)")
_REST: Final = inspect.Parameter.VAR_POSITIONAL
_WIDTH: Final = 88
_INDENT: Final = 20


def usage(name: str, function: Callable[..., Any]) -> str:
    """Return the help of a component: its usage, its summary and its options.

    Each option shows its spellings, its type, its default, and its entry in the docstring's
    ``Args`` section.

    Args:
        name: name of the component.
        function: the component.

    Raises:
        ComponentError: a command line cannot set a required parameter.
    """
    parameters = signature_of(name, function).parameters
    summary, entries = _docstring(function)
    blocks = [synopsis(name, parameters), *([textwrap.fill(summary, _WIDTH)] if summary else [])]
    ordered = sorted(parameters.values(), key=lambda one: one.kind is _REST)
    options = [_option(one, entries.get(one.name, "")) for one in ordered]
    return "\n\n".join([*blocks, *(["\n".join(["options:", *options])] if options else [])])


def _option(parameter: inspect.Parameter, description: str) -> str:
    if parameter.kind is _REST:
        spelling = f"-- {parameter.name} ..."
    else:
        spelling = f"{', '.join(options_of(parameter))} {parameter.name.upper()}"
    text = "; ".join([*([description.rstrip(".")] if description else []), _kind(parameter)])
    lines = textwrap.wrap(text, _WIDTH - _INDENT, break_on_hyphens=False)
    head = f"  {spelling}"
    if len(head) < _INDENT - 1:
        head = f"{head:<{_INDENT}}{lines.pop(0)}"
    return "\n".join([head, *(f"{'':{_INDENT}}{line}" for line in lines)])


def _kind(parameter: inspect.Parameter) -> str:
    """Return the type and the default of an option."""
    try:
        kind = describe(annotation_of(parameter))
    except UnsupportedTypeError:
        return "cannot be set on a command line"
    if parameter.kind is _REST:
        return f"each {kind}"
    if parameter.default is inspect.Parameter.empty:
        return f"{kind}, required"
    if parameter.default in (None, ""):
        return f"{kind}, no default"
    return f"{kind}, default {parameter.default}"


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return the first paragraph of a docstring, and its ``Args`` by name, on one line each."""
    lines = (inspect.getdoc(function) or "").splitlines()
    start = next((i for i, line in enumerate(lines) if _ARGUMENTS.match(line)), len(lines))
    paragraphs = "\n".join(lines[:start]).strip().split("\n\n")
    entries = {name: text.replace("``", "`") for name, text in _entries(lines[start + 1 :])}
    return " ".join(paragraphs[0].split()).replace("``", "`"), entries


def _entries(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and text of each entry of a section."""
    depth, name, text = 0, "", [""]
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line.strip() and not indent:
            break
        depth = depth or indent
        entry = _ENTRY.match(line.strip()) if indent == depth else None
        if entry:
            if name:
                yield name, " ".join(text).strip()
            name, text = entry[1], [entry[2].strip()]
        else:
            text.append(line.strip())
    if name:
        yield name, " ".join(text).strip()
