"""Launch a component, show its logs, and wait until it ends."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_torchx.cli.interrupts import Interrupts
from airflow_torchx.cli.request import (
    PARENT_RUN_ID,
    app_of,
    ensure_images,
    requested,
    wants_help,
    with_parent,
)
from airflow_torchx.cli.screen import answer, paint_states, say, show_error, warn
from airflow_torchx.cli.torchxconfig import VARIABLE, TorchXConfig, places
from airflow_torchx.cli.watching import follow
from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.plan.plan_text import secret_values, shown, shown_app, shown_options
from airflow_torchx.core.state.app_ref import DEFAULT_SESSION, SCHEDULER
from airflow_torchx.core.state.report import replica_table
from airflow_torchx.core.workspace.recipe import with_workspace
from airflow_torchx.errors import LaunchInterruptedError, UsageError, WorkspaceError
from airflow_torchx.runtime.attach import failure
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppState, is_terminal

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.schedulers.docker_scheduler import AppDryRunInfo
    from airflow_torchx.specs import AppDef, DescribeAppResponse

_BY_DEFAULT: Final = (
    "The current folder is the workspace unless --workspace names another; "
    '--workspace "" takes none.'
)


def run(args: Namespace) -> int:
    """Do what ``run`` is asked for, and return 0 only if the app succeeded."""
    config = read_config()
    request = requested(args, config)
    if wants_help(request):
        from airflow_torchx import components

        answer(components.usage(request.component, components.get(request.component)).rstrip())
        return 0
    if args.detach and (args.wait or args.log):
        raise UsageError("--detach does not wait.", fix="Leave out --wait and --log, or --detach.")
    for name in request.unknown:
        warn(f"there is no run option {name!r}, which .torchxconfig sets: left out")
    # Before the component's own code, which may go to another folder, or print.
    workspace = _workspace(request.workspace)
    with contextlib.redirect_stdout(sys.stderr):
        app = app_of(request, config)
    ensure_images(app, request.component)
    app = with_parent(app, args.parent_run_id or os.environ.get(PARENT_RUN_ID))
    app = with_workspace(app, workspace)
    try:
        with DockerScheduler(DEFAULT_SESSION) as scheduler:
            if args.dryrun:
                _show(scheduler.submit_dryrun(app, request.options), as_json=args.json)
                return 0
            return _run(scheduler, app, request.options, args)
    except WorkspaceError as why:
        if request.workspace is not None:
            raise
        raise WorkspaceError(why.what, fix=f"{why.fix}\n{_BY_DEFAULT}") from None


def read_config() -> TorchXConfig:
    """Return what the user's and the folder's ``.torchxconfig`` say, or the one of TORCHXCONFIG.

    Raises:
        UsageError: one cannot be read, or TORCHXCONFIG names none.
    """
    files = []
    for place in places(os.environ, os.path.expanduser("~"), os.curdir):  # noqa: PTH111 - no error without a home
        path = Path(place)
        if not path.is_file() and VARIABLE not in os.environ:
            continue
        try:
            files.append((place, path.read_text("utf-8-sig")))
        except (OSError, UnicodeDecodeError) as why:
            what = f"{place} cannot be read: {getattr(why, 'strerror', None) or why}."
            raise UsageError(what, fix=f"Mend it, or let {VARIABLE} name another file.") from None
    return TorchXConfig.parse(files)


def _workspace(wanted: str | None) -> str:
    """Return the workspace: by default the current folder, as in TorchX, unless it is empty.

    Raises:
        UsageError: the current folder is the root of the file system.
    """
    if wanted is not None:
        return wanted
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise UsageError("the current folder is gone.", fix="Go to another one.") from None
    if here == here.parent:
        raise UsageError(f"{here} is no workspace.", fix=_BY_DEFAULT)
    return str(here) if any(here.iterdir()) else ""


def _show(info: AppDryRunInfo, *, as_json: bool) -> None:
    """Write what would be launched, without secrets. JSON: keys are only ever added."""
    if not as_json:
        answer(str(info).rstrip())
        return
    data = {
        "scheduler": SCHEDULER,
        "cfg": shown_options(info.cfg, info.request),
        "app": shown_app(info.app, info.request),
        "request": shown(info.request),
    }
    answer(json.dumps(data, indent=2))


def _run(scheduler: DockerScheduler, app: AppDef, options: Opts, args: Namespace) -> int:
    with Interrupts() as interrupts:
        try:
            info = _launched(scheduler, app, options, interrupts)
        except LaunchInterruptedError as why:
            show_error(why)
            return interrupts.exit_code
        except KeyboardInterrupt:
            say("told to stop twice before all was launched: what there was is undone")
            return interrupts.exit_code
        interrupts.let_hang_up()
        app_id = info.request.app_id
        if not args.json:
            _tell_handle(info)
        if args.detach:
            say(_left(app_id).lstrip())
            ended = scheduler.describe(app_id)
        else:
            try:
                ended = follow(scheduler.engine, app_id, interrupts)
            except KeyboardInterrupt:
                now = scheduler.describe(app_id)
                say(_left(app_id) if now and not is_terminal(now.state) else _over(app_id))
                return interrupts.exit_code
    if args.json:
        answer(json.dumps(_result(info, ended)))
    if args.detach or ended is None:
        return 0
    return _shown_end(scheduler, ended, info)


def _tell_handle(info: AppDryRunInfo) -> None:
    """Write the handle; where nobody takes it, say that the app is there."""
    try:
        answer(info.request.handle)
        sys.stdout.flush()
    except OSError:
        say(_left(info.request.app_id).lstrip())
        raise


def _launched(
    scheduler: DockerScheduler, app: AppDef, options: Opts, interrupts: Interrupts
) -> AppDryRunInfo:
    """Prepare and launch, as a task does."""
    try:
        info = scheduler.prepare(app, options, should_stop=interrupts.pending)
    except StopRequested:
        what = "told to stop before anything was launched."
        raise LaunchInterruptedError(what) from None
    for warning in info.request.warnings:
        warn(warning)
    scheduler.schedule(info, should_stop=interrupts.pending)
    count = len(info.request.containers)
    say(f"launched app {info.request.app_id}: {count} replica{'s' * (count != 1)}")
    return info


def _shown_end(scheduler: DockerScheduler, app: DescribeAppResponse, info: AppDryRunInfo) -> int:
    if app.state is AppState.FAILED:
        why = failure(scheduler.engine, app, secret_values(info.request))
        say(paint_states(f"\n{why}", sys.stderr))
    else:
        told = f"\napp {app.app_id!r} {app.state.name}\n\n{replica_table(app)}"
        say(paint_states(told, sys.stderr))
    return 0 if app.state is AppState.SUCCEEDED else 1


def _result(info: AppDryRunInfo, app: DescribeAppResponse | None) -> dict[str, str | None]:
    """Return what TorchX's ``run --json`` writes. Keys are only ever added."""
    return {
        "handle": info.request.handle,
        "app_id": info.request.app_id,
        "scheduler": SCHEDULER,
        "state": app.state.name if app else None,
        "ui_url": app.ui_url if app else None,
    }


def _left(app_id: str) -> str:
    return (
        f"\napp {app_id} goes on without this command:\n"
        f"  airflow-torchx log -t {app_id}    shows its logs\n"
        f"  airflow-torchx cancel {app_id}    stops it"
    )


def _over(app_id: str) -> str:
    return f"\napp {app_id} has ended:\n  airflow-torchx status {app_id}    tells how"
