"""Implements the commands on existing apps: status, list, describe, cancel, delete."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.cli.daemon import connect, scheduler_on, typed
from airflow_torchx.cli.finding import find
from airflow_torchx.cli.overview import overview
from airflow_torchx.cli.request import run_options
from airflow_torchx.cli.screen import paint_states, print_message, print_result, table
from airflow_torchx.cli.usage import with_usage
from airflow_torchx.core.engine.containers import DEFAULT_STOP_GRACE_S
from airflow_torchx.core.state.app_ref import AppRef
from airflow_torchx.core.state.describe import (
    CHECKPOINT_S,
    CHECKPOINT_SIGNAL,
    STOP_GRACE,
    has_ended,
)
from airflow_torchx.core.state.report import age_text, replica_table
from airflow_torchx.errors import AppNotFoundError, UsageError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.placing import docker_cli
from airflow_torchx.runtime.root_cause import diagnosed
from airflow_torchx.specs import NONE, to_dict
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_torchx.cli.overview import Listed
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.state.progress import Progress
    from airflow_torchx.specs import DescribeAppResponse

_TITLES: Final = ("APP HANDLE", "APP NAME", "APP STATUS", "AGE", "NOTE")
_EMPTY: Final[tuple[object, ...]] = (None, "", NONE, {}, [])


def list_apps(args: Namespace) -> int:
    """List the apps on the daemon; run options are checked, and have no effect."""
    if args.scheduler_args:
        run_options(args.scheduler_args)
    with connect(args.scheduler) as engine:
        found = overview(engine)
        scheduler, where = scheduler_on(engine), docker_cli(engine).engine
    if args.json:
        print_result(json.dumps([_listed(app, scheduler) for app in found], indent=2))
    elif found:
        rows = [_row(app, scheduler, datetime.now(UTC)) for app in found]
        print_result(table(rows, _TITLES, sys.stdout))
    else:
        print_message(f"no apps on {where}")
    return 0


def status(args: Namespace) -> int:
    """Show the state of an app and its replicas, and what they use."""
    with connect(args.scheduler, args.app_handle) as engine:
        seen = diagnosed(engine, _describe(engine, args.app_handle))
        app, progress = with_usage(engine, seen)
        scheduler = scheduler_on(engine)
    if args.roles:
        app = _select_roles(app, [name for name in args.roles.split(",") if name])
    if args.json:
        print_result(json.dumps(_status(app, scheduler, progress), indent=2))
        return 0
    now = datetime.now(UTC)
    line = f"\n{progress.text(now.timestamp())}" if progress else ""
    if app.msg != NONE:
        line = f", as it waits for room: {app.msg}{line}"
    text = (
        f"{_handle(app.app_id, scheduler)} is {app.state.name}{line}\n\n{replica_table(app, now)}"
    )
    print_result(paint_states(text, sys.stdout))
    return 0


def describe(args: Namespace) -> int:
    """Show all details of an app."""
    with connect(args.scheduler, args.app_handle) as engine:
        app = _describe(engine, args.app_handle)
        scheduler = scheduler_on(engine)
    data = _description(app, scheduler)
    if args.json:
        print_result(json.dumps(data, indent=2))
    else:
        import yaml

        print_result(
            yaml.safe_dump(_without_empty(data), sort_keys=False, allow_unicode=True).rstrip()
        )
    return 0


def cancel(args: Namespace) -> int:
    """Stop an app and keep its containers."""
    with connect(args.scheduler, args.app_handle) as engine:
        app = _describe(engine, args.app_handle)
        if has_ended(app):
            print_message(paint_states(f"app {app.app_id} is already {app.state.name}", sys.stderr))
            return 0
        with contextlib.suppress(AppNotFoundError):
            stop(engine, app)
        ended = lifecycle.observe(engine, app.app_id)
        name = typed(engine, app.app_id)
    if ended is None:
        print_message(f"app {app.app_id} was deleted by another client")
        return 0
    print_message(paint_states(f"app {app.app_id} is {ended.state.name}", sys.stderr))
    print_message(kept(name))
    return 0


def kept(name: str) -> str:
    """Return how to remove an app that has ended, by what a command line calls it."""
    return f"its containers are kept; remove them:\n  airflow-torchx delete {name}"


def delete(args: Namespace) -> int:
    """Stop an app and remove its containers."""
    with connect(args.scheduler, args.app_handle) as engine:
        app = _describe(engine, args.app_handle)
        remove(engine, app)
    print_message(f"deleted app {app.app_id}")
    return 0


def remove(engine: Engine, app: DescribeAppResponse) -> None:
    """Stop an app if it runs, and remove it; another client may do the same at the same time."""
    with contextlib.suppress(AppNotFoundError):
        if not has_ended(app):
            stop(engine, app)
        lifecycle.delete(engine, app.app_id)


def stop(engine: Engine, app: DescribeAppResponse) -> None:
    """Cancel an app, and print how long that may take."""
    grace = app.metadata.get(STOP_GRACE, f"{DEFAULT_STOP_GRACE_S:g}")
    save_s, name = (app.metadata.get(key) for key in (CHECKPOINT_S, CHECKPOINT_SIGNAL))
    saving = f"{save_s} s to save after {name}, and then " if save_s and name else ""
    print_message(f"stopping app {app.app_id}; this may take {saving}{grace} s")
    lifecycle.cancel(engine, app.app_id)


def _describe(engine: Engine, handle: str) -> DescribeAppResponse:
    app_id = find(engine, handle)
    if app := lifecycle.observe(engine, app_id, inspect_all=True):
        return app
    raise lifecycle.not_found(engine, app_id)


def _listed(listed: Listed, scheduler: str) -> dict[str, Any]:
    """Return an entry of ``list --json``; no key is ever removed."""
    app = listed.app
    return {
        "handle": _handle(app.app_id, scheduler, app.app_handle),
        "app_id": app.app_id,
        "name": app.name,
        "scheduler": scheduler,
        "state": app.state.name,
        "created_at": app.created_at.isoformat() if app.created_at else None,
        "failure": listed.failure(),
        "progress": listed.progress and listed.progress.to_json(),
    }


def _row(listed: Listed, scheduler: str, now: datetime) -> tuple[str, ...]:
    """Return a row of ``list``."""
    app, note = listed.app, listed.note(now.timestamp())
    age = age_text((now - app.created_at).total_seconds()) if app.created_at else ""
    handle = _handle(app.app_id, scheduler, app.app_handle)
    return handle, app.name, app.state.name, age, note


def _without_empty(data: Any) -> Any:  # noqa: ANN401 - JSON data
    """Return data without keys that have no value."""
    if isinstance(data, list):
        return [_without_empty(item) for item in data]
    if isinstance(data, dict):
        return {key: _without_empty(item) for key, item in data.items() if item not in _EMPTY}
    return data


def _handle(app_id: str, scheduler: str, recorded: str = "") -> str:
    """Return the handle that the launch recorded, or a new one, since TorchX records none."""
    return recorded if "://" in recorded else AppRef(app_id, None, scheduler).handle


def _select_roles(app: DescribeAppResponse, roles: list[str]) -> DescribeAppResponse:
    known = [role.role for role in app.roles_statuses]
    for name in roles:
        if name not in known:
            raise UsageError(f"app {app.app_id!r} has no role {name!r}; {suggest(name, known)}")
    kept = [role for role in app.roles_statuses if role.role in roles]
    return replace(app, roles_statuses=kept)


def _status(app: DescribeAppResponse, scheduler: str, progress: Progress | None) -> dict[str, Any]:
    """Return the output of ``status --json``, TorchX's with more keys; none is ever removed."""
    data = to_dict(app)
    return {
        "state": data["state"],
        "num_restarts": data["num_restarts"],
        "roles": [role.to_json() for role in app.roles_statuses],
        "msg": data["msg"],
        "structured_error_msg": data["structured_error_msg"],
        "url": data["ui_url"],
        "handle": _handle(app.app_id, scheduler),
        "app_id": app.app_id,
        "scheduler": scheduler,
        "ui_url": data["ui_url"],
        "progress": progress and progress.to_json(),
    }


def _description(app: DescribeAppResponse, scheduler: str) -> dict[str, Any]:
    """Return the output of ``describe --json``; no key is ever removed."""
    data = to_dict(app)
    replicas = {role["role"]: role["replicas"] for role in data["roles_statuses"]}
    return {
        "handle": _handle(app.app_id, scheduler),
        "app_id": app.app_id,
        "scheduler": scheduler,
        "state": data["state"],
        "msg": data["msg"],
        "metadata": data["metadata"],
        "roles": [
            {
                "name": role.name,
                "image": role.image,
                "num_replicas": role.num_replicas,
                "replicas": replicas.get(role.name, []),
            }
            for role in app.roles
        ],
    }
