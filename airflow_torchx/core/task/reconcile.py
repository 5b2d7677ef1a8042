"""Decides what a task does with apps that earlier processes of the same task left.

A worker can die at any moment between the first container and the result. The next process of the
task finds the apps by label, and reattaches to one or cleans them up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.state.describe import (
    CHECKPOINT_S,
    STOP_GRACE,
    by_app,
    describe,
    replicas_of,
)
from airflow_torchx.core.task.config_hash import is_same_config
from airflow_torchx.core.task.record import RESULT_REJECTED, SUCCEEDED, LaunchedApp
from airflow_torchx.specs import AppState, is_terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerDetail, ContainerRow
    from airflow_torchx.core.plan.identity import TaskAttempt
    from airflow_torchx.core.task.record import TaskRecord
    from airflow_torchx.specs import DescribeAppResponse


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedApp:
    """An app of this task on the daemon, with ``max_tries`` and ``try_number`` of its launch.

    A clear raises ``max_tries``, a retry does not.
    """

    app: DescribeAppResponse
    launch_id: str
    handle: str
    max_tries: int
    config_hash: str
    try_number: int

    @property
    def launched_app(self) -> LaunchedApp:
        """The app, as the task that reattaches keeps it."""
        grace = self.app.metadata.get(STOP_GRACE)
        checkpoint = self.app.metadata.get(CHECKPOINT_S)
        return LaunchedApp(
            app_id=self.app.app_id,
            handle=self.handle,
            launch_id=self.launch_id,
            config_hash=self.config_hash,
            stop_grace_s=float(grace) if grace else Opts().stop_grace_s,
            checkpoint_s=float(checkpoint) if checkpoint else 0.0,
        )

    @property
    def is_incomplete(self) -> bool:
        """Whether its launch was interrupted: a replica was not created or not started.

        A replica that was removed after its start counts as failed instead.
        """
        replicas = replicas_of(self.app)
        size = sum(role.num_replicas for role in self.app.roles)
        is_unstarted = any(replica.state is AppState.SUBMITTED for replica in replicas)
        return is_unstarted or len(replicas) < size

    @property
    def is_usable(self) -> bool:
        """Whether it runs without a failed replica, or has succeeded."""
        state = self.app.state
        return not self.is_incomplete and (not is_terminal(state) or state is AppState.SUCCEEDED)


@dataclass(frozen=True, slots=True)
class CleanUp:
    """One app to stop and remove.

    It is superseded if it has another configuration, is of an earlier clear, or failed.
    """

    app_id: str
    cause: Literal["incomplete", "superseded"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What the task does next.

    Args:
        reattach: the running or succeeded app to use; None to launch one.
        recorded: the record whose result the task returns without running an app.
        clean_up: all other apps of this task.
    """

    reattach: ObservedApp | None = None
    recorded: TaskRecord | None = None
    clean_up: tuple[CleanUp, ...] = ()

    @property
    def launches(self) -> bool:
        """Whether the task launches an app."""
        return self.reattach is None and self.recorded is None


def reconcile(
    attempt: TaskAttempt,
    config_hash: str | None,
    apps: Sequence[ObservedApp],
    record: TaskRecord | None,
) -> Decision:
    """Return what an attempt of a task does with the task's apps on the daemon.

    It reattaches to the newest app that is complete, running or succeeded, was launched since the
    last clear (same ``max_tries``), and has the same configuration. A succeeded app whose result
    was rejected is excluded. All other apps are cleaned up.
    With None as the attempt's hash, it reattaches to no app.
    """

    def is_current(one: ObservedApp | TaskRecord) -> bool:
        return (
            config_hash is not None
            and one.max_tries == attempt.max_tries
            and is_same_config(one.config_hash, config_hash)
        )

    valid = record if record and is_current(record) else None
    rejected = valid.app_id if valid and valid.phase == RESULT_REJECTED else None
    recorded = valid if valid and valid.phase == SUCCEEDED else None
    candidates = [
        one for one in apps if is_current(one) and one.is_usable and one.app.app_id != rejected
    ]
    newest = max(candidates, key=lambda one: one.try_number, default=None)
    reattach = None if recorded else newest
    return Decision(
        reattach=reattach,
        recorded=recorded,
        clean_up=tuple(
            CleanUp(one.app.app_id, "incomplete" if one.is_incomplete else "superseded")
            for one in apps
            if one is not reattach
        ),
    )


def unneeded_markers(
    attempt: TaskAttempt, markers: Iterable[ContainerRow], *, may_wait: bool
) -> tuple[ContainerRow, ...]:
    """Return the containers of a task's places in the queue for GPUs that no try will use.

    A try that launches, and may wait, takes over ticket and claim of a try since the last clear.
    Places of a later try are left alone, and those that are being removed.
    """

    def is_kept(row: ContainerRow) -> bool:
        cleared = _number(row.labels, labels.MAX_TRIES)
        is_later = (cleared, _number(row.labels, labels.TRY_NUMBER)) > (
            attempt.max_tries,
            attempt.try_number,
        )
        is_usable = row.labels.get(labels.GPU_MARKER) in {"ticket", "claim"}
        is_used = may_wait and is_usable and cleared == attempt.max_tries
        return is_later or is_used or row.state == "removing"

    return tuple(row for row in markers if not is_kept(row))


def observed_apps(
    rows: Iterable[ContainerRow], details: Mapping[str, ContainerDetail] | None = None
) -> list[ObservedApp]:
    """Return the apps of these containers, by app id; see `describe` for ``details``."""
    apps = []
    for app_id, of_app in sorted(by_app(rows).items()):
        app, row_labels = describe(app_id, of_app, details or {}), of_app[0].labels
        if app is not None:
            apps.append(
                ObservedApp(
                    app=app,
                    launch_id=row_labels.get(labels.LAUNCH_ID, ""),
                    handle=row_labels.get(labels.HANDLE, ""),
                    max_tries=_number(row_labels, labels.MAX_TRIES),
                    config_hash=row_labels.get(labels.CONFIG_HASH, ""),
                    try_number=_number(row_labels, labels.TRY_NUMBER),
                )
            )
    return apps


def _number(row_labels: Mapping[str, str], label: str) -> int:
    text = row_labels.get(label, "")
    return int(text) if text.isdecimal() else -1
