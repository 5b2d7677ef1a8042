"""The components by name, and apps made by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from airflow_torchx.components import dist, utils
from airflow_torchx.components.arguments import bind, synopsis
from airflow_torchx.components.files import load, user_code_errors
from airflow_torchx.errors import ComponentError
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
#: In front of a name, it asks TorchX even if we have a component of that name.
_TORCHX: Final = "torchx:"


def names() -> list[str]:
    """Return the names of the components that are built in."""
    return [*COMPONENTS]


def get(name: str, *, folder: Path | str | None = None) -> Component:
    """Return the component of that name.

    Args:
        name: a component that is built in, like ``dist.ddp``; a function in a file or a module,
            ``path/to/file.py:fn`` or ``my.module:fn``; or a name that TorchX knows, if it is
            installed, where ``torchx:dist.ddp`` is TorchX's own for sure.
        folder: where a relative path starts; None for the current folder.

    Raises:
        ComponentError: there is none, or it cannot be loaded.
    """
    if name in COMPONENTS:
        return COMPONENTS[name]
    theirs = name.removeprefix(_TORCHX)
    if theirs == name and ":" in name:
        return load(name, folder)
    if theirs != name or torchx_compat.is_installed():
        with user_code_errors(f"TorchX cannot load component {theirs!r}"):
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
    """Return the app that a component makes of command-line arguments.

    ``torchx run dist.ddp -j 2x1 --script main.py`` is
    ``parse("dist.ddp", ["-j", "2x1", "--script", "main.py"])``.

    Args:
        name: the component, as for `get`.
        args: the command line, split into words.
        folder: where a relative path in ``name`` starts; None for the current folder.
        defaults: what counts for parameters that ``args`` leaves out, as on a command line.

    Raises:
        ComponentError: there is no such component, it does not take these arguments, or it fails.
        InvalidAppError: the app is TorchX's, and has what only TorchX could honour.
    """
    return call(name, get(name, folder=folder), args, defaults=defaults)


def call(
    name: str,
    function: Component,
    args: Sequence[str],
    *,
    defaults: Mapping[str, str] | None = None,
) -> AppDef:
    """Return the app that ``function`` makes of command-line arguments; ``name`` is for messages.

    Raises:
        ComponentError: the function does not take these arguments, fails, or returns no app.
        InvalidAppError: it returns TorchX's app, with what only TorchX could honour.
    """
    bound = bind(name, function, args, defaults)
    code = getattr(function, "__code__", None)
    try:
        with user_code_errors(f"component {name!r} failed", code and code.co_filename):
            app: object = function(*bound.args, **bound.kwargs)
    except ComponentError as wrong:
        fix = f"{wrong.fix}\n{synopsis(name, bound.signature.parameters)}".lstrip()
        raise ComponentError(wrong.what, fix=fix) from (wrong.__cause__ or wrong)
    if not is_app(app):
        what = f"component {name!r} returned {type(app).__name__} instead of an AppDef."
        raise ComponentError(what, fix="Return airflow_torchx.specs.AppDef, or TorchX's.")
    return as_app(app)


def _unknown(name: str) -> ComponentError:
    """Return the error of a name that nobody knows, with the nearest one."""
    ours = [] if name.startswith(_TORCHX) else names()
    with user_code_errors("TorchX cannot load its components"):
        known = [*dict.fromkeys([*ours, *torchx_compat.component_names()])]
    near = nearest(name.removeprefix(_TORCHX), known)
    fix = f"Did you mean {near!r}? " if near else ""
    fix += f"Known are: {', '.join(sorted(known))}."
    if not torchx_compat.is_installed():
        fix += f" For those that TorchX knows, install it: {torchx_compat.INSTALL}"
    return ComponentError(f"there is no component {name!r}.", fix=fix)
