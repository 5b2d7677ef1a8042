"""Renders the help of a component from its signature and docstring."""

from __future__ import annotations

import inspect
import textwrap
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.components.arguments import (
    annotation_of,
    options_of,
    signature_of,
    synopsis,
)
from airflow_torchx.components.literals import UnsupportedTypeError, describe
from airflow_torchx.specs.docstrings import docstring

if TYPE_CHECKING:
    from collections.abc import Callable

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
