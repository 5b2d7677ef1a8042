"""From what a person writes to the app that is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_torchx.core.state.app_ref import DEFAULT_SESSION, app_ref
from airflow_torchx.errors import AppNotFoundError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.specs.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_torchx.core.engine.protocol import Engine


def find(engine: Engine, word: str) -> str:
    """Return the id of an app on a daemon.

    Args:
        engine: the daemon.
        word: its handle, its id, or the beginning of an id that no other app has.

    Raises:
        ConditionError: it is the handle of no Docker scheduler.
        AppNotFoundError: there is no such app, with the nearest one, or there are several.
    """
    app_id = app_ref(word).app_id
    if lifecycle.exists(engine, app_id):
        return app_id
    return choose(word, [app.app_id for app in lifecycle.apps(engine)])


def choose(word: str, app_ids: Collection[str]) -> str:
    """Return the one of these apps that is meant.

    Raises:
        AppNotFoundError: it is none of them, or more than one.
    """
    ref = app_ref(word)
    if ref.app_id in app_ids:
        return ref.app_id
    meant = sorted(one for one in app_ids if one.startswith(ref.app_id) and "://" not in word)
    if len(meant) == 1:
        return meant[0]
    if meant:
        what = f"{word!r} is the beginning of {len(meant)} apps: {', '.join(meant)}."
        raise AppNotFoundError(what, fix="Write some more of its id.")
    near = nearest(ref.app_id, app_ids)
    fix = f"Did you mean {near}? " if near else ""
    fix += "`airflow-torchx list` shows all apps."
    if ref.torchx_conn_id not in {None, DEFAULT_SESSION}:
        fix += (
            f"\nIts session {ref.torchx_conn_id!r} is an Airflow connection: set DOCKER_HOST to "
            "the daemon of that."
        )
    raise AppNotFoundError(f"there is no app {ref.app_id!r} on this daemon.", fix=fix)
