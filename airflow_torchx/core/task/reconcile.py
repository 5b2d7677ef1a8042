"""What a task does about apps that earlier processes of the same task left: pure.

A worker can die at any moment between the first container and the result. Whoever comes next for
the same task finds by label what is there, and this module decides what becomes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.state.describe import STOP_GRACE, describe, replicas_of
from airflow_torchx.core.task.config_hash import is_same_config
from airflow_torchx.core.task.record import RESULT_REJECTED, SUCCEEDED, LaunchedApp
from airflow_torchx.specs import AppState, is_terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.plan.identity import TaskAttempt
    from airflow_torchx.core.task.record import TaskRecord
    from airflow_torchx.specs import DescribeAppResponse


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedApp:
    """An app of this task on the daemon.

    Args:
        app: how it is doing.
        launch_id: the word on the containers of its launch.
        handle: its handle.
        max_tries: ``ti.max_tries`` at the launch; a clear raises it, a retry does not.
        config_hash: digest of what was launched.
        try_number: the attempt that launched it.
    """

    app: DescribeAppResponse
    launch_id: str
    handle: str
    max_tries: int
    config_hash: str
    try_number: int

    @property
    def launched_app(self) -> LaunchedApp:
        """The app, for the task that takes it."""
        grace = self.app.metadata.get(STOP_GRACE)
        return LaunchedApp(
            app_id=self.app.app_id,
            handle=self.handle,
            launch_id=self.launch_id,
            config_hash=self.config_hash,
            stop_grace_s=float(grace) if grace else Opts().stop_grace_s,
        )

    @property
    def is_incomplete(self) -> bool:
        """Tell whether its launch broke off: a replica is missing, or was never started.

        A replica that is gone although it was started counts as failed, not as missing.
        """
        replicas = replicas_of(self.app)
        promised = sum(role.num_replicas for role in self.app.roles)
        waiting = any(replica.state is AppState.SUBMITTED for replica in replicas)
        return waiting or len(replicas) < promised

    @property
    def is_usable(self) -> bool:
        """Tell whether it runs and no replica is lost, or all of it ended well."""
        state = self.app.state
        return not self.is_incomplete and (not is_terminal(state) or state is AppState.SUCCEEDED)


@dataclass(frozen=True, slots=True)
class CleanUp:
    """One app to stop and remove.

    Args:
        app_id: the app.
        cause: ``incomplete`` for a launch that broke off, ``superseded`` for an app that no longer
            counts.
    """

    app_id: str
    cause: Literal["incomplete", "superseded"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What the task does next.

    Args:
        reattach: the app to go on with, which runs or has succeeded; None to launch one.
        recorded: the record whose result is the task's; nothing has to run.
        clean_up: every other app of this task.
    """

    reattach: ObservedApp | None = None
    recorded: TaskRecord | None = None
    clean_up: tuple[CleanUp, ...] = ()


def reconcile(
    attempt: TaskAttempt,
    config_hash: str | None,
    apps: Sequence[ObservedApp],
    record: TaskRecord | None,
) -> Decision:
    """Return what an attempt of a task does about the apps on the daemon.

    An app counts only if it is complete, was launched since a user last cleared the task (same
    ``max_tries``) and from the same configuration. A running app is adopted. A succeeded one is
    collected, unless its result was rejected before. A failed one is left: the retry runs anew.

    Args:
        attempt: this attempt.
        config_hash: hash of what it would launch; None reattaches to nothing.
        apps: all apps of this task in this run, of any attempt.
        record: what earlier attempts recorded.
    """

    def counts(one: ObservedApp | TaskRecord) -> bool:
        return (
            config_hash is not None
            and one.max_tries == attempt.max_tries
            and is_same_config(one.config_hash, config_hash)
        )

    valid = record if record and counts(record) else None
    rejected = valid.app_id if valid and valid.phase == RESULT_REJECTED else None
    recorded = valid if valid and valid.phase == SUCCEEDED else None
    counting = [one for one in apps if counts(one) and one.is_usable and one.app.app_id != rejected]
    newest = max(counting, key=lambda one: one.try_number, default=None)
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


def observed_apps(rows: Iterable[ContainerRow]) -> list[ObservedApp]:
    """Return the apps that these containers make, by the app's id."""
    by_app: dict[str, list[ContainerRow]] = {}
    for row in rows:
        by_app.setdefault(row.labels[labels.APP_ID], []).append(row)
    apps = []
    for app_id, of_app in sorted(by_app.items()):
        app, written = describe(app_id, of_app, {}), of_app[0].labels
        if app is not None:
            apps.append(
                ObservedApp(
                    app=app,
                    launch_id=written.get(labels.LAUNCH_ID, ""),
                    handle=written.get(labels.HANDLE, ""),
                    max_tries=_number(written, labels.MAX_TRIES),
                    config_hash=written.get(labels.CONFIG_HASH, ""),
                    try_number=_number(written, labels.TRY_NUMBER),
                )
            )
    return apps


def _number(written: Mapping[str, str], label: str) -> int:
    text = written.get(label, "")
    return int(text) if text.isdecimal() else -1
