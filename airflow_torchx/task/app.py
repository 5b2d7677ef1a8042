"""Builds the app of a task from the operator's arguments."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_torchx.core.plan import option_values
from airflow_torchx.core.task.arguments import exactly_one
from airflow_torchx.core.workspace.recipe import SourceRoot, with_workspace
from airflow_torchx.errors import ComponentError, InvalidAppError, Problem
from airflow_torchx.specs import as_app
from airflow_torchx.specs.scalars import BYTES, as_text, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import PurePath

    from airflow_torchx.specs import AnyApp, AppDef


def source_root(file: str, relative: str | None) -> SourceRoot:
    """Return the folder of a DAG file, whose path below its bundle may be known."""
    return SourceRoot(posixpath.dirname(file), posixpath.dirname(relative or file))


def app_of(
    task_id: str,
    app: AnyApp | Mapping[str, Any] | None,
    component: str | None,
    args: Sequence[str] | str,
    source_root: SourceRoot | None,
    *,
    has_image: bool = False,
) -> AppDef:
    """Return the given app, or the app that a component returns; see the operator's arguments.

    Relative paths of component files begin at ``source_root``, or at the current folder. With
    ``has_image``, a component may miss its image, which `with_overrides` sets.

    Raises:
        ValueError: ``app`` and ``component`` are both set or both missing.
        ComponentError: the component does not exist, rejects its arguments, or raises.
        InvalidAppError: ``app`` has invalid fields, or fields that only TorchX supports.
    """
    exactly_one(app=app, component=component)
    if app is None:
        return _from_component(component or "", args, source_root, has_image=has_image)
    if args:
        what = f"task {task_id!r} has component_args= without component=."
        raise ComponentError(what, fix="Put the arguments into app=, or set component=.")
    return as_app(app)


def checked_with(make: Callable[[], AppDef], check: Callable[[], object]) -> AppDef:
    """Return the app that ``make`` returns; if it fails, show the problems of ``check``, too.

    Raises:
        ComponentError: as ``make`` does.
        InvalidAppError: as ``make`` does.
    """
    try:
        return make()
    except (ComponentError, InvalidAppError) as error:
        try:
            check()
        except InvalidAppError as other:
            if isinstance(error, InvalidAppError):
                problems = [*error.problems, *other.problems]
                raise InvalidAppError(problems, subject=error.subject) from error
            raise ComponentError(f"{error.what}\n{other.what}", fix=error.fix) from error
        raise


def with_overrides(
    app: AppDef,
    *,
    image: str | None,
    env: Mapping[str, Any],
    workspace: str | PurePath | Mapping[str, str] | None = None,
) -> AppDef:
    """Return a copy of an app with overrides for every role; ``env`` wins over that of the role.

    A role keeps a workspace of its own.

    Raises:
        InvalidAppError: ``env`` is not a valid environment.
        WorkspaceError: ``workspace`` has no sources.
    """
    # As in options: a template renders to a string, and a number stands for its digits.
    try:
        own_env = option_values.env(env)
    except ValueError as error:
        problem = Problem("env", "it is not accepted", str(error))
        raise InvalidAppError([problem], subject=f"app {app.name!r}") from None
    roles = [
        replace(role, image=image or role.image, env={**role.env, **own_env}) for role in app.roles
    ]
    return with_workspace(replace(app, roles=roles), workspace)


def _from_component(
    component: str, args: Sequence[str] | str, source_root: SourceRoot | None, *, has_image: bool
) -> AppDef:
    from airflow_torchx import components

    folder = source_root.folder if source_root else None
    name = str(plain(component))
    return components.parse(name, _words(args), folder=folder, has_image=has_image)


def _words(args: object) -> list[str]:
    """Return the arguments that ``component_args`` holds after it was rendered.

    A number, perhaps of another task, is written as Jinja would.
    """
    try:
        words = shlex.split(plain(args)) if isinstance(args, str) else args
    except ValueError as error:
        what = f"cannot split component_args={args!r} into arguments: {error}."
        raise ComponentError(what, fix="Close the quotes, or pass a list.") from None
    given: dict[str, object] = {"component_args": words}
    if isinstance(words, Sequence) and not isinstance(words, BYTES):
        given = {f"component_args[{index}]": word for index, word in enumerate(words)}
    texts = []
    for where, word in given.items():
        try:
            texts.append(as_text(word))
        except TypeError:
            what = f"{where}: expected a string or a number, got {word!r:.50}."
            fix = "Check the task or the template that it comes from."
            raise ComponentError(what, fix=fix) from None
    return texts
