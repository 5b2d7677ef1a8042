"""Finds components by name and builds apps with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from airflow_torchx.components import dist, utils
from airflow_torchx.components.arguments import bind, synopsis
from airflow_torchx.components.files import load, user_code_errors
from airflow_torchx.errors import ComponentError, ComponentNotFoundError
from airflow_torchx.specs import AnyApp, AppDef, as_app, is_app, torchx_compat
from airflow_torchx.specs.suggest import nearest

if TYPE_CHECKING:
    from pathlib import Path

Component: TypeAlias = Callable[..., AnyApp]

COMPONENTS: Final[Mapping[str, Component]] = {
    "dist.ddp": dist.ddp,
    "dist.spmd": dist.spmd,
    "dist.torchrun": dist.torchrun,
    "utils.binary": utils.binary,
    "utils.booth": utils.booth,
    "utils.copy": utils.copy,
    "utils.echo": utils.echo,
    "utils.python": utils.python,
    "utils.sh": utils.sh,
    "utils.touch": utils.touch,
}
#: Prefix that selects TorchX's component instead of a built-in one.
_TORCHX: Final = "torchx:"


def names() -> list[str]:
    """Return the names of the built-in components."""
    return [*COMPONENTS]


def get(name: str, *, folder: Path | str | None = None) -> Component:
    """Return the component of that name.

    Args:
        name: a built-in component like ``dist.ddp``; a function in a file or a module,
            ``path/to/file.py:fn`` or ``my.module:fn``; or, if TorchX is installed, one of its
            components. ``torchx:dist.ddp`` is always TorchX's.
        folder: base folder of a relative path; None for the current folder.

    Raises:
        ComponentNotFoundError: the component does not exist.
        InvalidComponentError: the function is not a component.
        ComponentError: its file or module fails to run.
    """
    if name in COMPONENTS:
        return COMPONENTS[name]
    theirs = name.removeprefix(_TORCHX)
    if theirs == name and ":" in name:
        return load(name, folder)
    if theirs != name or torchx_compat.is_installed():
        with user_code_errors(f"TorchX failed to load component {theirs!r}"):
            found = torchx_compat.component(theirs)
        if found is not None:
            return found
    raise _unknown(name)


def parse(
    name: str,
    args: Sequence[str],
    *,
    folder: Path | str | None = None,
    defaults: Mapping[str, str] | None = None,
) -> AppDef:
    """Return the app that a component builds from command-line arguments.

    ``torchx run dist.ddp -j 2x1 --script main.py`` is
    ``parse("dist.ddp", ["-j", "2x1", "--script", "main.py"])``.

    Args:
        name: the component, as for `get`.
        args: the command line.
        folder: base folder of a relative path in ``name``; None for the current folder.
        defaults: command-line values of parameters that ``args`` omits.

    Raises:
        ComponentError: the component does not exist, rejects the arguments, or fails.
        InvalidAppError: the app is TorchX's and uses features that only TorchX supports.
    """
    return call(name, get(name, folder=folder), args, defaults=defaults)


def call(
    name: str,
    function: Component,
    args: Sequence[str],
    *,
    defaults: Mapping[str, str] | None = None,
) -> AppDef:
    """Return the app that ``function`` builds from command-line arguments.

    Args:
        name: name of the component, for messages.
        function: the component.
        args: the command line.
        defaults: command-line values of parameters that ``args`` omits.

    Raises:
        ComponentError: the function rejects the arguments, fails, or does not return an app.
        InvalidAppError: the app is TorchX's and uses features that only TorchX supports.
    """
    bound = bind(name, function, args, defaults)
    code = getattr(function, "__code__", None)
    try:
        with user_code_errors(f"component {name!r} failed", code and code.co_filename):
            app: object = function(*bound.args, **bound.kwargs)
    except ComponentError as error:
        fix = f"{error.fix}\n{synopsis(name, bound.signature.parameters)}".lstrip()
        raise ComponentError(error.what, fix=fix) from (error.__cause__ or error)
    if not is_app(app):
        what = f"component {name!r} returned {type(app).__name__} instead of an AppDef"
        raise ComponentError(what, fix="Return airflow_torchx.specs.AppDef, or TorchX's.")
    return as_app(app)


def _unknown(name: str) -> ComponentNotFoundError:
    """Return the error for an unknown name, with the closest known one."""
    ours = [] if name.startswith(_TORCHX) else names()
    with user_code_errors("TorchX failed to load its components"):
        known = [*dict.fromkeys([*ours, *torchx_compat.component_names()])]
    near = nearest(name.removeprefix(_TORCHX), known)
    if name.endswith(".py"):
        near = f"{name}:function"
    fix = f"Did you mean {near!r}? " if near else ""
    fix += f"Known components: {', '.join(sorted(known))}."
    if not torchx_compat.is_installed():
        fix += f" For TorchX's own components, install it: {torchx_compat.INSTALL}"
    return ComponentNotFoundError(f"unknown component {name!r}", fix=fix)
