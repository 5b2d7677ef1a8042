"""Implements the command prune."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from airflow_torchx.cli.daemon import connect, settings_of
from airflow_torchx.cli.screen import print_error, print_message, print_result, table, warn
from airflow_torchx.cli.timespec import parse_duration
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.task.prune import OLDER_THAN_S, UNKNOWN_STATE, Policy, counted_text
from airflow_torchx.runtime import engines
from airflow_torchx.runtime.prune import Pruned, Pruner, to_json, unknown_end, unknown_states

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.prune import AskAirflow, RunEnd, Survey

_TITLES: Final = ("WHAT", "WHY", "AGE", "SIZE", "DAG, RUN AND TASK")


def prune(args: Namespace) -> int:
    """Remove what has no owner on a daemon."""
    older_than = parse_duration(args.older_than).total_seconds() if args.older_than else None
    policy = Policy(
        older_than_s=OLDER_THAN_S if older_than is None else older_than,
        gone=args.gone,
        checkpoints=args.checkpoints,
    )
    engine, keep_images, (ask, run_end) = _connect(args)
    with engine:
        pruner = Pruner(engine, ask, policy, keep_images=keep_images, run_end=run_end)
        return run(pruner, args)


def run(pruner: Pruner, args: Namespace) -> int:
    """Find, and remove unless it is a dry run; return 1 if something could not be removed."""
    _warn_of_no_effect(args)
    survey = pruner.survey()
    if survey.found and not args.json:
        rows = [one.row(survey.now) for one in survey.found]
        print_result(table(rows, _TITLES, sys.stdout))
        sys.stdout.flush()
    pruned = Pruned() if args.dry_run else pruner.remove(survey.found)
    for one, error in pruned.failed:
        print_message(f"cannot {one.action} {one.kind} {one.row(survey.now)[0]}:")
        print_error(error)
    if args.json:
        print_result(json.dumps(to_json(survey, pruned), indent=2))
    else:
        _print_end(survey, pruned, args)
    return 1 if pruned.failed else 0


def _warn_of_no_effect(args: Namespace) -> None:
    """Warn of options that only matter if Airflow can be asked."""
    idle = [f"--{name}" for name in ("gone", "checkpoints") if getattr(args, name)]
    if idle and not _has_airflow(args):
        have = "has" if len(idle) == 1 else "have"
        fix = "add --conn, or use `airflow torchx prune`"
        warn(f"{' and '.join(idle)} {have} no effect without Airflow: {fix}")


def _print_end(survey: Survey, pruned: Pruned, args: Namespace) -> None:
    if args.dry_run:
        print_message(f"would remove {counted_text(survey.found)}")
    else:
        print_message(f"removed {counted_text(pruned.done)}")
    if pruned.spared:
        print_message(f"left {counted_text(pruned.spared)}: in use, or removed by another client")
    for text in survey.left_texts:
        print_message(f"left {text}")
    if UNKNOWN_STATE in survey.left and not _has_airflow(args):
        on_swarm = f" -s {args.scheduler}" if args.scheduler else ""
        print_message(f"`airflow torchx prune{on_swarm}` asks Airflow for the states of tasks")


def _has_airflow(args: Namespace) -> bool:
    """Return whether the command may import Airflow, which takes seconds."""
    return args.conn is not None or getattr(args, "in_airflow", False)


def _connect(args: Namespace) -> tuple[Engine, int | None, tuple[AskAirflow, RunEnd]]:
    """Return the daemon, its ``keep_images``, and what asks Airflow."""
    if not _has_airflow(args):
        return connect(args.scheduler), None, (unknown_states, unknown_end)
    settings = settings_of(args.scheduler, args.conn)
    from airflow_torchx.airflow_compat import run_end_in_database, task_states_in_database

    keep_images = Opts.parse(settings.options).keep_images
    ask = (task_states_in_database, run_end_in_database)
    return engines.connect(settings.endpoint), keep_images, ask
