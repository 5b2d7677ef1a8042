"""Finds components by name and builds apps with them."""

from __future__ import annotations

import contextvars
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from airflow_torchx.components import dist, utils
from airflow_torchx.components.arguments import arguments_error, parse_line, synopsis
from airflow_torchx.components.files import load
from airflow_torchx.components.user_errors import user_code_errors
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.plan.preflight import preflight
from airflow_torchx.errors import (
    ComponentError,
    ComponentNotFoundError,
    InvalidAppError,
    problems_of,
)
from airflow_torchx.specs import AnyApp, AppDef, as_app, is_app, torchx_compat
from airflow_torchx.specs.suggest import nearest

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_torchx.components.arguments import CommandLine

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
    has_image: bool = False,
) -> AppDef:
    """Return the app that a component builds from command-line arguments.

    ``torchx run dist.ddp -j 2x1 --script main.py`` is
    ``parse("dist.ddp", ["-j", "2x1", "--script", "main.py"])``.

    Args:
        name: the component, as for `get`.
        args: the command line.
        folder: base folder of a relative path in ``name``; None for the current folder.
        has_image: the caller sets the image of every role later, so that none is missing.

    Raises:
        ComponentError: the component does not exist, rejects the arguments, or fails.
        InvalidAppError: the app is TorchX's and uses features that only TorchX supports.
    """
    return call(name, get(name, folder=folder), args, has_image=has_image)


def call(
    name: str,
    function: Component,
    args: Sequence[str],
    *,
    defaults: Mapping[str, str] | None = None,
    outer: Collection[str] = (),
    has_image: bool = False,
) -> AppDef:
    """Return the app that ``function`` builds from command-line arguments.

    Args:
        name: name of the component, for messages.
        function: the component.
        args: the command line.
        defaults: command-line values of parameters that ``args`` omits.
        outer: options that come before the component, for messages.
        has_image: the caller sets the image of every role later, so that none is missing.

    Raises:
        ComponentError: the function rejects the arguments, fails, or does not return an app.
        InvalidAppError: the app is TorchX's and uses features that only TorchX supports.
    """
    line = parse_line(name, function, args, defaults, outer)
    usage = synopsis(name, line.bound.signature.parameters)
    no_image = [] if has_image else _missing_image(function, line)
    if line.mistakes:
        mistakes = [*line.mistakes, *_more_mistakes(function, line), *no_image]
        raise arguments_error(name, mistakes, usage)
    code = getattr(function, "__code__", None)
    try:
        with user_code_errors(f"component {name!r} failed", code and code.co_filename):
            app: object = function(*line.bound.args, **line.bound.kwargs)
    except (ComponentError, InvalidAppError) as error:
        if isinstance(error, InvalidAppError) and function not in COMPONENTS.values():
            raise
        mistakes = [*(_more_mistakes(function, line) or problems_of(error)), *no_image]
        if len(mistakes) > 1 or isinstance(error, InvalidAppError):
            raise arguments_error(name, mistakes, usage) from None
        fix = f"{error.fix}\n{usage}".lstrip()
        raise ComponentError(error.what, fix=fix) from (error.__cause__ or error)
    built = _as_app(name, app)
    if mistakes := _wrong_values(function, line, built):
        raise arguments_error(name, [*mistakes, *no_image], usage)
    return built


def _as_app(name: str, app: object) -> AppDef:
    """Return what a component returned as an app."""
    if is_app(app):
        return as_app(app)
    if inspect.iscoroutine(app):
        app.close()  # Python warns of one that never runs.
    what = f"component {name!r} returned {type(app).__name__} instead of an AppDef"
    raise ComponentError(what, fix="Return airflow_torchx.specs.AppDef, or TorchX's.")


def _more_mistakes(function: Component, line: CommandLine) -> list[str]:
    """Return what a built-in component finds in the arguments that are not known to be wrong.

    A component of a user is not called with a part of its arguments.
    """
    if function not in COMPONENTS.values():
        return []
    bound, unset = line.bound, inspect.Parameter.empty
    parameters = bound.signature.parameters
    required = {
        name
        for name, one in parameters.items()
        if one.default is unset and one.kind is not inspect.Parameter.VAR_POSITIONAL
    }
    # What has a wrong value, or none, is not missing.
    named = (line.incomplete & _PROGRAMS) | (required - bound.arguments.keys())
    bound.arguments.update(dict.fromkeys(named, "..."))
    mistakes: list[str] = []
    probe = contextvars.copy_context()
    probe.run(dist.is_probe.set, True)
    # Valid values, one after the other, let the component build an app, which may show more.
    for name in ("", *_CHECKED):
        if name in parameters:
            valid = "..." if name == "script" else parameters[name].default
            bound.arguments[name] = valid
        try:
            app = as_app(probe.run(function, *bound.args, **bound.kwargs))
        except (ComponentError, InvalidAppError) as error:
            mistakes += problems_of(error) if not mistakes else []
        else:
            return [*mistakes, *_wrong_values(function, line, app)]
    return mistakes


def _wrong_values(function: Component, line: CommandLine, app: AppDef) -> list[str]:
    """Return the problems of a built-in component's app, one for each option that sets a value."""
    found: dict[str, str] = {}
    for problem in preflight(app, Opts()) if function in COMPONENTS.values() else ():
        field = _FIELD.match(problem.where)
        name = _SET_BY.get(field[1], field[1]) if field else ""
        if field and field[1] in line.bound.arguments:
            name = field[1]
        if name in line.bound.arguments and name != "image":
            found.setdefault(name, f"--{name}: {problem.what}; {problem.fix}")
    return [*found.values()]


def _missing_image(function: Component, line: CommandLine) -> list[str]:
    """Return what is wrong if a built-in component gets no image; other mistakes come with it."""
    bound = line.bound
    is_set = bound.arguments.get("image") or "image" in line.incomplete
    takes_one = "image" in bound.signature.parameters and function in COMPONENTS.values()
    return ["--image is missing: expected an image"] if takes_one and not is_set else []


#: Parameters of the built-in components of which one is required.
_PROGRAMS: Final = frozenset({"script", "m", "c"})
#: Parameters that the built-in components check themselves.
_CHECKED: Final = ("mounts", "m", "c", "script", "h", "j")
#: The field of a role, or of its resource, in the path of a problem.
_FIELD: Final = re.compile(r"roles\[0\]\.(?:resource\.)?(\w+)")
#: Parameters that set a field of another name.
_SET_BY: Final = {"num_replicas": "j", "min_replicas": "j", "port_map": "rdzv_port"}


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
