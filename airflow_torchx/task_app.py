"""The app that a task's arguments mean."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_torchx.core import option_values
from airflow_torchx.core.workspace import with_workspace
from airflow_torchx.errors import ComponentError, InvalidAppError, Problem
from airflow_torchx.specs import AppDef, from_dict, to_dict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def app_of(
    task_id: str,
    *,
    app: AppDef | Mapping[str, Any] | None,
    component: str | None,
    words: Sequence[str] | str,
) -> AppDef:
    """Return the app that is given, or that a component makes.

    Args:
        task_id: the task, for errors.
        app: an app, or a mapping in the form of `specs.to_dict`.
        component: instead, the name of a component.
        words: the component's command line, as a list or as one text.

    Raises:
        ComponentError: not exactly one of ``app`` and ``component`` is given, there is no such
            component, or it does not take these arguments.
        InvalidAppError: ``app`` is a mapping with wrong fields.
    """
    if (app is None) == (component is None):
        given = "neither" if app is None else "both"
        what = f"task {task_id!r} needs exactly one of app= and component=, not {given}."
        raise ComponentError(what, fix='For example component="dist.ddp".')
    if app is None:
        return _from_component(component or "", words)
    if words:
        what = f"task {task_id!r} has component_args=, but no component."
        raise ComponentError(what, fix="Put the arguments into app=, or name a component.")
    return app if isinstance(app, AppDef) else from_dict(app)


def laid_over(
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


def unfolded(content: object) -> object:
    """Return the mapping that an app stands for, whose texts can be rendered; else the content."""
    return to_dict(content) if isinstance(content, AppDef) else content


def _from_component(component: str, args: Sequence[str] | str) -> AppDef:
    from airflow_torchx import components

    try:
        words = shlex.split(args) if isinstance(args, str) else [*args]
    except ValueError as why:
        what = f"component_args={args!r} cannot be split into words: {why}."
        raise ComponentError(what, fix="Close the quotation, or give a list.") from None
    return components.parse(component, words)
