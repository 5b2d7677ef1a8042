"""Finds components under TorchX's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_torchx.components.arguments import signature_of
from airflow_torchx.components.registry import call, get, names
from airflow_torchx.components.source import source_of
from airflow_torchx.specs.docstrings import docstring

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_torchx.components.registry import Component
    from airflow_torchx.specs import AppDef


@dataclass(frozen=True)
class FoundComponent:
    """Describes a component.

    Args:
        name: its name, as for `get`.
        description: first paragraph of its docstring.
        fn_name: name of the function.
        fn: the function.
    """

    name: str
    description: str
    fn_name: str
    fn: Component


def get_component(name: str) -> FoundComponent:
    """Return the component of that name.

    Raises:
        ComponentNotFoundError: the component does not exist.
        InvalidComponentError: a command line cannot call it.
        ComponentError: its file or module fails to run.
    """
    function = get(name)
    signature_of(name, function)
    return FoundComponent(name, docstring(function)[0], function.__name__, function)


def get_components() -> dict[str, FoundComponent]:
    """Return the built-in components by name."""
    return {name: get_component(name) for name in names()}


def get_builtin_source(name: str) -> str:
    """Return a module with a component, and with the imports and definitions that it needs.

    Raises:
        ComponentError: as for `get_component`, or the component has no source file.
    """
    return source_of(name, get(name))


def materialize_appdef(
    cmpnt_fn: Component, cmpnt_args: Sequence[str], cmpnt_defaults: Mapping[str, str] | None = None
) -> AppDef:
    """Return the app that a component builds from command-line arguments.

    Args:
        cmpnt_fn: the component.
        cmpnt_args: the command line.
        cmpnt_defaults: command-line values of parameters that ``cmpnt_args`` omits.

    Raises:
        ComponentError: the function rejects the arguments, fails, or does not return an app.
    """
    return call(cmpnt_fn.__name__, cmpnt_fn, cmpnt_args, defaults=cmpnt_defaults)
