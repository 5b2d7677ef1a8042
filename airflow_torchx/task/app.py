"""The app that a task's arguments mean."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_torchx.core.plan import option_values
from airflow_torchx.core.workspace.recipe import with_workspace
from airflow_torchx.errors import ComponentError, InvalidAppError, Problem
from airflow_torchx.specs import as_app, is_app, to_dict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_torchx.core.workspace.recipe import SourceRoot
    from airflow_torchx.specs import AnyApp, AppDef


def app_of(
    task_id: str,
    app: AnyApp | Mapping[str, Any] | None,
    component: str | None,
    words: Sequence[str] | str,
    source_root: SourceRoot | None,
) -> AppDef:
    """Return the app that is given, or that a component makes.

    Args:
        task_id: the task, for errors.
        app: an app, ours or TorchX's, or a mapping in the form of `specs.to_dict`.
        component: instead, a component, as for `components.get`.
        words: the component's command line, as a list or as one text.
        source_root: where the relative path of a component's file starts; None for the current
            folder.

    Raises:
        ComponentError: not exactly one of ``app`` and ``component`` is given, there is no such
            component, it does not take these arguments, or it fails.
        InvalidAppError: ``app`` has wrong fields, or what only TorchX could honour.
    """
    if (app is None) == (component is None):
        given = "neither" if app is None else "both"
        what = f"task {task_id!r} needs exactly one of app= and component=, not {given}."
        raise ComponentError(what, fix='For example component="dist.ddp".')
    if app is None:
        return _from_component(component or "", words, source_root)
    if words:
        what = f"task {task_id!r} has component_args=, but no component."
        raise ComponentError(what, fix="Put the arguments into app=, or name a component.")
    return as_app(app)


def with_overrides(
    app: AppDef,
    *,
    image: str | None,
    env: Mapping[str, Any],
    workspace: str | Mapping[str, str] | None = None,
) -> AppDef:
    """Return an app with this image and these variables in every role, over the role's own.

    Raises:
        InvalidAppError: ``env`` is none.
        WorkspaceError: ``workspace``, for every role that has none of its own, names no sources.
    """
    # As in options: a template renders to a text, a number in Python code means its digits.
    try:
        own_env = option_values.env(env)
    except ValueError as why:
        raise InvalidAppError([Problem("env", "it is not accepted", str(why))]) from None
    roles = [
        replace(role, image=image or role.image, env={**role.env, **own_env}) for role in app.roles
    ]
    return with_workspace(replace(app, roles=roles), workspace)


def as_mapping(content: object) -> object:
    """Return the mapping that an app stands for, whose texts can be rendered; else the content."""
    return to_dict(as_app(content)) if is_app(content) else content


def _from_component(
    component: str, args: Sequence[str] | str, source_root: SourceRoot | None
) -> AppDef:
    from airflow_torchx import components

    try:
        words = shlex.split(args) if isinstance(args, str) else [*args]
    except ValueError as why:
        what = f"component_args={args!r} cannot be split into words: {why}."
        raise ComponentError(what, fix="Close the quotation, or give a list.") from None
    return components.parse(component, words, folder=source_root.folder if source_root else None)
