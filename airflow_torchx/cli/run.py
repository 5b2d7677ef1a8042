"""Implements the command run: it launches a component and follows it to its end."""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_torchx.cli.apps import kept
from airflow_torchx.cli.daemon import typed
from airflow_torchx.cli.interrupts import Interrupts
from airflow_torchx.cli.request import (
    WORKSPACE_FIX,
    build_request,
    messages_of,
    parent_run_id,
    prepare,
    wants_help,
    with_parent,
)
from airflow_torchx.cli.room import await_room
from airflow_torchx.cli.screen import paint_states, print_error, print_message, print_result, warn
from airflow_torchx.cli.torchxconfig import VARIABLE, TorchXConfig, config_paths
from airflow_torchx.cli.watching import follow
from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.plan.identity import random_app_id
from airflow_torchx.core.plan.plan_text import secret_values, shown, shown_app, shown_options
from airflow_torchx.core.state.app_ref import DEFAULT_SESSION
from airflow_torchx.core.state.describe import has_ended
from airflow_torchx.core.state.report import replica_table
from airflow_torchx.core.workspace.recipe import with_workspace
from airflow_torchx.errors import LaunchInterruptedError, UsageError, WorkspaceError
from airflow_torchx.runtime import launching
from airflow_torchx.runtime.attach import failure
from airflow_torchx.runtime.root_cause import diagnosed
from airflow_torchx.schedulers import get_scheduler_factories
from airflow_torchx.specs import AppState

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_torchx.core.plan.job_plan import LaunchContext
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.schedulers.docker_scheduler import AppDryRunInfo, DockerScheduler
    from airflow_torchx.specs import AppDef, DescribeAppResponse


def run(args: Namespace) -> int:
    """Launch a component, and return 0 only if the app succeeds."""
    config = read_config()
    request = build_request(args, config, os.environ)
    if wants_help(request):
        from airflow_torchx import components

        name = request.component
        print_result(components.usage(name, components.get(name)).rstrip())
        return 0
    if args.detach and (args.wait or args.log):
        fix = "Remove --detach, or --wait and --log."
        raise UsageError("--detach cannot be used with --wait or --log", fix=fix)
    for warning in request.warnings:
        warn(warning)
    app, workspace = prepare(request, config)
    app = with_parent(app, parent_run_id(args.parent_run_id, os.environ))
    app = with_workspace(app, workspace)
    try:
        with get_scheduler_factories()[request.scheduler](DEFAULT_SESSION) as scheduler:
            if args.dryrun:
                context = _context(scheduler, app, args)
                info = scheduler.submit_dryrun(app, request.options, context=context)
                _show(info, scheduler.scheduler, as_json=args.json)
                return 0
            return _run(scheduler, app, request.options, args)
    except WorkspaceError as error:
        if request.workspace is not None:
            raise
        raise WorkspaceError(error.what, fix=f"{error.fix}\n{WORKSPACE_FIX}") from None


def mistakes(args: Namespace) -> list[str]:
    """Return what is wrong with the arguments of `run`; nothing is launched."""

    def check() -> None:
        config = read_config()
        request = build_request(args, config, os.environ)
        if not wants_help(request):
            prepare(request, config)

    return messages_of(check)


def read_config() -> TorchXConfig:
    """Return the configuration of ``.torchxconfig`` files, or of the file in TORCHXCONFIG."""
    files = []
    for name in config_paths(os.environ, os.path.expanduser("~"), os.curdir):  # noqa: PTH111 - no error without a home
        path = Path(name)
        if not path.is_file() and VARIABLE not in os.environ:
            continue
        try:
            files.append((name, path.read_text("utf-8-sig", "surrogateescape")))
        except OSError as error:
            what = f"cannot read {name}: {error.strerror}"
            raise UsageError(what, fix=f"Fix it, or set {VARIABLE} to another file.") from None
    return TorchXConfig.parse(files)


def _show(info: AppDryRunInfo, scheduler: str, *, as_json: bool) -> None:
    """Print a launch request without secrets; no key of the JSON is ever removed."""
    if not as_json:
        print_result(str(info).rstrip())
        return
    data = {
        "scheduler": scheduler,
        "cfg": shown_options(info.cfg, info.request),
        "app": shown_app(info.app, info.request),
        "request": shown(info.request),
    }
    print_result(json.dumps(data, indent=2))


def _run(scheduler: DockerScheduler, app: AppDef, options: Opts, args: Namespace) -> int:
    with Interrupts() as interrupts:
        try:
            context = _context(scheduler, app, args)
            info = _launch(scheduler, app, options, context, interrupts)
        except LaunchInterruptedError as error:
            print_error(error)
            return interrupts.exit_code
        interrupts.launched()
        app_id, name = info.request.app_id, typed(scheduler.engine, info.request.app_id)
        if not args.json:
            _print_handle(info, name)
        if args.detach:
            print_message(_still_running(name).lstrip())
            ended = scheduler.describe(app_id)
        else:
            try:
                ended = follow(scheduler.engine, app_id, interrupts, secret_values(info.request))
            except KeyboardInterrupt:
                now = scheduler.describe(app_id)
                running = now and not has_ended(now)
                print_message(_still_running(name) if running else _ended(name))
                return interrupts.exit_code
    if args.json:
        print_result(json.dumps(_result(info, scheduler.scheduler, ended)))
    if args.detach or ended is None:
        return 0
    return _print_end(scheduler, ended, info)


def _print_handle(info: AppDryRunInfo, name: str) -> None:
    """Print the handle; if standard output is closed, print it to standard error."""
    try:
        print_result(info.request.handle)
        sys.stdout.flush()
    except OSError:
        print_message(_still_running(name).lstrip())
        raise


def _context(scheduler: DockerScheduler, app: AppDef, args: Namespace) -> LaunchContext:
    """Return the context of a launch; no process restarts an app from which it detaches."""
    app_id = random_app_id(app.name, secrets.randbits(64))
    return scheduler.new_context(app_id, is_waited_for=not args.detach)


def _launch(
    scheduler: DockerScheduler,
    app: AppDef,
    options: Opts,
    context: LaunchContext,
    interrupts: Interrupts,
) -> AppDryRunInfo:
    """Prepare and launch, as a task does."""
    try:
        info = scheduler.prepare(app, options, context, should_stop=interrupts.pending)
        for warning in info.request.warnings:
            warn(warning)
        scheduler.launch(info, should_stop=interrupts.pending)
        has_started = await_room(scheduler.engine, info.request, interrupts.pending)
    except StopRequested:
        raise LaunchInterruptedError("interrupted before the launch") from None
    except KeyboardInterrupt as error:
        undo = "\n".join(getattr(error, "__notes__", [launching.NOTHING_LEFT]))
        raise LaunchInterruptedError("interrupted twice during the launch", fix=undo) from None
    count = len(info.request.containers)
    if has_started:
        print_message(f"launched app {info.request.app_id}: {count} replica{'s' * (count != 1)}")
    return info


def _print_end(scheduler: DockerScheduler, app: DescribeAppResponse, info: AppDryRunInfo) -> int:
    if app.state is AppState.FAILED:
        secrets = secret_values(info.request)
        app = diagnosed(scheduler.engine, app, secrets)
        text = str(failure(scheduler.engine, app, secrets))
    else:
        text = f"app {app.app_id!r} {app.state.name}\n\n{replica_table(app)}"
    print_message(paint_states(f"\n{text}", sys.stderr))
    print_message(f"\n{kept(typed(scheduler.engine, app.app_id))}")
    return 0 if app.state is AppState.SUCCEEDED else 1


def _result(
    info: AppDryRunInfo, scheduler: str, app: DescribeAppResponse | None
) -> dict[str, str | None]:
    """Return the output of TorchX's ``run --json``; no key is ever removed."""
    return {
        "handle": info.request.handle,
        "app_id": info.request.app_id,
        "scheduler": scheduler,
        "state": app.state.name if app else None,
        "ui_url": app.ui_url if app else None,
    }


def _still_running(name: str) -> str:
    return (
        f"\napp {name} keeps running. Show its logs, or stop it:\n"
        f"  airflow-torchx log -t {name}\n"
        f"  airflow-torchx cancel {name}"
    )


def _ended(name: str) -> str:
    return (
        f"\napp {name} has ended. Show its state, or remove its containers:\n"
        f"  airflow-torchx status {name}\n"
        f"  airflow-torchx delete {name}"
    )
