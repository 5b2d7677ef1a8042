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
    from collections.abc import Callable

_ARGUMENTS: Final = re.compile(r"^(?:Args|Arguments):[ \t]*\n", re.MULTILINE)
_UNINDENTED: Final = re.compile(r"^(?=\S)", re.MULTILINE)
_ENTRY: Final = re.compile(r"^\*{0,2}(\w+)(?:[ \t]*\([^)\n]*\))?:", re.MULTILINE)
_REST: Final = inspect.Parameter.VAR_POSITIONAL
_WIDTH: Final = 88
_INDENT: Final = 20


def usage(name: str, function: Callable[..., Any]) -> str:
    """Return the help of a component: its usage, its summary and its options.

    Each option shows its spellings, its type, its default, and its entry in the docstring's
    ``Args`` section, or in that of the function that it wraps.

    Args:
        name: name of the component.
        function: the component.

    Raises:
        ComponentError: a command line cannot set a required parameter.
    """
    parameters = signature_of(name, function).parameters
    summary, entries = docstring(function)
    entries = docstring(inspect.unwrap(function))[1] | entries
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


def docstring(documented: object) -> tuple[str, dict[str, str]]:
    """Return the first paragraph of a docstring, and its ``Args`` by name, on one line each."""
    text = (inspect.getdoc(documented) or "").replace("``", "`")
    before, *after = _ARGUMENTS.split(text, maxsplit=1)
    section = _UNINDENTED.split("".join(after), maxsplit=1)[0]
    parts = _ENTRY.split(textwrap.dedent(section))
    lines = {name: entry.splitlines() for name, entry in zip(parts[1::2], parts[2::2], strict=True)}
    entries = {name: " ".join(map(str.strip, entry)).strip() for name, entry in lines.items()}
    return " ".join(before.strip().partition("\n\n")[0].split()), entries
