"""The components by name, and apps made by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from airflow_torchx.components import dist
from airflow_torchx.components.arguments import bind
from airflow_torchx.errors import ComponentError
from airflow_torchx.specs import AppDef
from airflow_torchx.specs.suggest import nearest

Component: TypeAlias = Callable[..., AppDef]

COMPONENTS: Final[Mapping[str, Component]] = {"dist.ddp": dist.ddp}


def get(name: str) -> Component:
    """Return the component of that name, like ``dist.ddp``.

    Raises:
        ComponentError: there is none.
    """
    if name in COMPONENTS:
        return COMPONENTS[name]
    near = nearest(name, COMPONENTS)
    known = f"Known are: {', '.join(sorted(COMPONENTS))}."
    fix = f"Did you mean {near!r}? {known}" if near else known
    raise ComponentError(f"there is no component {name!r}.", fix=fix)


def parse(name: str, args: Sequence[str]) -> AppDef:
    """Return the app that a component makes of command-line arguments.

    ``torchx run dist.ddp -j 2x1 --script main.py`` is
    ``parse("dist.ddp", ["-j", "2x1", "--script", "main.py"])``.

    Args:
        name: the component.
        args: the command line, split into words.

    Raises:
        ComponentError: there is no such component, or it does not take these arguments.
    """
    return call(name, get(name), args)


def call(name: str, function: Component, args: Sequence[str]) -> AppDef:
    """Return the app that ``function`` makes of command-line arguments; ``name`` is for messages.

    Raises:
        ComponentError: the function does not take these arguments, or returns no app.
    """
    bound = bind(name, function, args)
    app: object = function(*bound.args, **bound.kwargs)
    if not isinstance(app, AppDef):
        what = f"component {name!r} returned {type(app).__name__} instead of an AppDef."
        raise ComponentError(what, fix="Return airflow_torchx.specs.AppDef.")
    return app
