"""Finds an app by its handle, its id, or a prefix of its id."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.ledger import is_marker
from airflow_torchx.core.state.app_ref import DEFAULT_SESSION, app_ref
from airflow_torchx.core.state.report import age_text
from airflow_torchx.errors import AppNotFoundError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.specs.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_torchx.core.engine.protocol import Engine

_WAIT: Final = (
    "`airflow-torchx gpus` shows the queue. To end the wait, end the command of the app, or clear"
    " or mark its task."
)


def find(engine: Engine, app: str) -> str:
    """Return the id of an app, given its handle, its id or a unique prefix of one.

    Raises:
        ConditionError: the handle is not a Docker scheduler's.
        AppNotFoundError: no app or several apps match, or the app waits for GPUs.
    """
    app_id = app_ref(app).app_id
    if lifecycle.exists(engine, app_id):
        return app_id
    launched = [listed.app_id for listed in lifecycle.apps(engine)]
    waiting = {
        row.labels[labels.GPU_APP]: row.created_at
        for row in engine.rows({labels.GPU_APP: None})
        if is_marker(row)
    }
    app_id = match(app, {*launched, *waiting})
    if app_id in launched:
        return app_id
    age = age_text((datetime.now(UTC) - waiting[app_id]).total_seconds())
    what = f"app {app_id!r} has waited for GPUs for {age}, and is not launched yet"
    raise AppNotFoundError(what, fix=_WAIT)


def match(app: str, app_ids: Collection[str]) -> str:
    """Return the only app id that a handle, an id or a prefix of one matches.

    Raises:
        AppNotFoundError: no id or several ids match.
    """
    ref = app_ref(app)
    if ref.app_id in app_ids:
        return ref.app_id
    matches = sorted(one for one in app_ids if ref.app_id and one.startswith(ref.app_id))
    if len(matches) == 1:
        return matches[0]
    if matches:
        what = f"{app!r} matches {len(matches)} apps: {', '.join(matches)}"
        raise AppNotFoundError(what, fix="Give more of the id.")
    near = nearest(ref.app_id, app_ids)
    fix = f"Did you mean {near}? " if near else ""
    fix += "`airflow-torchx list` lists all apps."
    if ref.torchx_conn_id not in {None, DEFAULT_SESSION}:
        fix += (
            f"\nThe session {ref.torchx_conn_id!r} is an Airflow connection: set DOCKER_HOST to "
            "its daemon."
        )
    raise AppNotFoundError(f"no app {ref.app_id!r} on this daemon", fix=fix)
