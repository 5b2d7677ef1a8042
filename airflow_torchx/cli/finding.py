"""Finds an app by its handle, its id, or a prefix of its id."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.docker_cli import docker_cli
from airflow_torchx.core.gpu.ledger import is_marker, marker_of
from airflow_torchx.core.gpu.report import unlaunched_text
from airflow_torchx.core.state.app_ref import DEFAULT_SESSION, app_ref
from airflow_torchx.errors import AppNotFoundError
from airflow_torchx.runtime import lifecycle, placing
from airflow_torchx.specs.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_torchx.core.engine.protocol import Engine

#: An app, also as a handle, with a role or a replica of it, as `airflow-torchx log` accepts them.
_WITH_ROLE: Final = re.compile(r"((?:\w+://[^/]*/)?[^/]+)/[^/]")

_LISTED: Final = (
    "`airflow-torchx list` lists all apps, and `airflow-torchx gpus` those that wait for GPUs."
)
_LISTED_ON_SWARM: Final = "`airflow-torchx list -s docker_swarm` lists all apps."


def find(engine: Engine, app: str) -> str:
    """Return the id of an app, given its handle, its id or a unique prefix of one.

    Raises:
        ConditionError: the handle is of an unknown scheduler.
        AppNotFoundError: no app or several apps match, or the app waits for GPUs.
    """
    app_id = app_ref(app).app_id
    if lifecycle.exists(engine, app_id):
        return app_id
    launched = {listed.app_id for listed in lifecycle.apps(engine)}
    # A claim comes last, because it says more than the ticket that it replaces.
    markers = sorted(
        filter(is_marker, engine.rows({labels.GPU_APP: None})),
        key=lambda row: marker_of(row) == "claim",
    )
    unlaunched = {row.labels[labels.GPU_APP]: row for row in markers}
    app_id = _matched(app, launched, unlaunched, is_swarm=placing.has_nodes(engine))
    if app_id in launched:
        return app_id
    what, fix = unlaunched_text(app_id, unlaunched[app_id], datetime.now(UTC))
    raise AppNotFoundError(what, fix=fix)


def _matched(
    app: str, launched: Collection[str], unlaunched: Collection[str], *, is_swarm: bool
) -> str:
    """Return the only app that matches; of one that is not launched, also a role or a replica."""
    known = {*launched, *unlaunched}
    try:
        return match(app, known, is_swarm=is_swarm)
    except AppNotFoundError:
        app_id = ""
        if found := _WITH_ROLE.match(app):
            with contextlib.suppress(AppNotFoundError):
                app_id = match(found[1], known)
        if not app_id:
            raise
    if app_id in launched:
        fix = f"Write {app_id}. Only `airflow-torchx log` accepts a role or a replica."
        raise AppNotFoundError(f"{app!r} is not an app, but a part of one", fix=fix)
    return app_id


def match(app: str, app_ids: Collection[str], *, is_swarm: bool = False) -> str:
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
    fix += _LISTED_ON_SWARM if is_swarm else _LISTED
    if ref.torchx_conn_id not in {None, DEFAULT_SESSION}:
        fix += (
            f"\nThe session {ref.torchx_conn_id!r} is an Airflow connection: set DOCKER_HOST to "
            f"{'a manager of its swarm' if is_swarm else 'its daemon'}."
        )
    where = docker_cli(is_swarm=is_swarm).engine
    raise AppNotFoundError(f"no app {ref.app_id!r} on {where}", fix=fix)
