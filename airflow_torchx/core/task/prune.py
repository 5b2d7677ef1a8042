"""Decides which containers of a daemon have no owner.

An owner is a process that would use or remove a container: a task that has not ended, a trigger, a
client that launches. What a user may still read is kept for some time: the containers of apps
outside Airflow, and those of tasks that keep theirs.

The state of a task must be newer than the list of containers: an app that existed before its task
was over belongs to no later process.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.amounts import counted, size
from airflow_torchx.core.gpu.ledger import is_discarded, marker_of, timeout_s
from airflow_torchx.core.plan.identity import is_cancelled_name
from airflow_torchx.core.state.describe import describe
from airflow_torchx.core.state.report import age_text, duration_text
from airflow_torchx.core.state.rounds import may_restart, role_sizes
from airflow_torchx.core.task.arguments import OnFinish
from airflow_torchx.core.task.shutdown import UNKNOWN
from airflow_torchx.core.workspace.recipe import BUILD_PREFIX, surplus
from airflow_torchx.specs import AppState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.images import ImageRow

#: The state of a task instance that Airflow does not have: its run was deleted, or another Airflow
#: has it.
GONE: Final = "gone"
#: Why what belongs to a task is left if Airflow was not asked, or did not say.
UNKNOWN_STATE: Final = "the state of its task is unknown"
#: Value of the label `labels.ON_FINISH` of a task that does not wait for its app.
DETACHED: Final = "detached"
#: How long the containers of a launch may exist before the first one starts, in seconds.
UNSTARTED_S: Final = 60.0
#: How long ended apps that a user may still read are kept, in seconds.
OLDER_THAN_S: Final = 24 * 3600.0
_DAY_S: Final = 24 * 3600.0

# https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/tasks.html (Task Instances).
# All other states, and those of later releases, are those of a task with an owner.
_OVER: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
# Not `removing`: a container that a daemon failed to remove keeps that state. The last two are
# states of a swarm.
_RUNS: Final = frozenset({"running", "restarting", "paused", "pending", "preparing"})
#: A replica that waits for room on a swarm is pending.
_UNSTARTED: Final = frozenset({"created", "pending"})


class TaskKey(NamedTuple):
    """A task instance; ``map_index`` is -1 if it is not mapped."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @classmethod
    def of(cls, row_labels: Mapping[str, str]) -> Self | None:
        """Return the task instance in the labels of a container; None without one."""
        names = (labels.DAG_ID, labels.RUN_ID, labels.TASK_ID, labels.MAP_INDEX)
        try:
            dag_id, run_id, task_id, index = (row_labels[name] for name in names)
            return cls(dag_id, run_id, task_id, int(index))
        except (KeyError, ValueError):  # any client can write a label
            return None

    def __str__(self) -> str:
        index = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return labels.printable(f"{self.dag_id} {self.run_id} {self.task_id}{index}")


class Phase(StrEnum):
    """How far an app is."""

    UNSTARTED = "was not started"
    RUNS = "runs"
    ENDED = "has ended"


class Action(StrEnum):
    """What happens to an app or a container."""

    REMOVE = "remove"
    STOP = "stop"
    LEAVE = "leave"


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What a user wants to be removed.

    Args:
        older_than_s: remove ended apps that are kept for users after this time, in seconds.
        checkpoints: whether volumes with the checkpoints of one DAG run go, too.
        gone: whether this Airflow is the only one on the daemon, so that a run which it does not
            have was deleted.
    """

    older_than_s: float = OLDER_THAN_S
    gone: bool = False
    checkpoints: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchedContainers:
    """The containers of one launch.

    Args:
        task: the task instance that launched them; None outside Airflow.
        on_finish: what the task does with containers at its end, or `DETACHED`; empty if unknown.
        since: when the last one was created, or has ended if that is known.
        may_restart: a failure may restart it in new containers.
        may_wait: it may wait for room on a swarm, as a whole, if it was not started.
    """

    app_id: str
    launch_id: str
    task: TaskKey | None
    on_finish: str
    phase: Phase
    has_succeeded: bool
    since: datetime
    may_restart: bool = False
    may_wait: bool = False

    @classmethod
    def of(cls, rows: Sequence[ContainerRow], since: datetime | None = None) -> Self:
        """Return the launch of these containers, of which there is at least one."""
        known = rows[0].labels
        found = describe(known.get(labels.APP_ID, ""), rows, {})
        return cls(
            app_id=known.get(labels.APP_ID, ""),
            launch_id=known.get(labels.LAUNCH_ID, ""),
            task=TaskKey.of(known),
            on_finish=known.get(labels.ON_FINISH, ""),
            phase=_phase(rows),
            has_succeeded=found is not None and found.state is AppState.SUCCEEDED,
            since=since or max(row.created_at for row in rows),
            may_restart=may_restart(rows),
            may_wait=labels.SWARM_NAME in known and sum(role_sizes(rows).values()) <= len(rows),
        )


def _phase(rows: Sequence[ContainerRow]) -> Phase:
    if all(row.state in _UNSTARTED and not is_cancelled_name(row.name) for row in rows):
        return Phase.UNSTARTED
    if any(row.state in _RUNS for row in rows):
        return Phase.RUNS
    return Phase.ENDED


class Verdict(NamedTuple):
    """What happens to an app, and why."""

    action: Action
    why: str


def verdict(app: LaunchedContainers, state: str | None, policy: Policy, age_s: float) -> Verdict:
    """Return what happens to an app.

    Args:
        app: the app.
        state: the state of its task instance, or None without one; `GONE` if Airflow does not have
            it, `UNKNOWN` if Airflow was not asked. Ignored for an app outside Airflow.
        policy: what the user wants.
        age_s: seconds since ``app.since``.
    """
    if app.task is None:
        return _outside_airflow(app, policy, age_s)
    if why := _owned(state, policy):
        return Verdict(Action.LEAVE, why)
    if state == GONE and app.phase is Phase.ENDED:
        # Nothing in Airflow leads to its containers any more, so its task keeps them for no user.
        return Verdict(Action.REMOVE, _over(state))
    return _without_task(app, _over(state), policy, age_s)


def _owned(state: str | None, policy: Policy) -> str | None:
    """Return why a task may still use what is its own; None if it will not run again."""
    if state == GONE:
        return None if policy.gone else "this Airflow does not have its run"
    if state == UNKNOWN:
        return UNKNOWN_STATE
    return None if state in _OVER else f"its task is {state or 'about to run again'}"


def is_over(state: str | None) -> bool:
    """Return whether Airflow has a task instance, and will not run it again by itself."""
    return state in _OVER


def _over(state: str | None) -> str:
    return "its run was deleted" if state == GONE else f"its task is over ({state})"


def _outside_airflow(app: LaunchedContainers, policy: Policy, age_s: float) -> Verdict:
    if app.phase is Phase.UNSTARTED and app.may_wait:
        return _waiting(policy, age_s)
    if app.phase is Phase.UNSTARTED and age_s > UNSTARTED_S:
        return Verdict(Action.REMOVE, "its launch broke off")
    # An app that its owner is about to restart has ended containers only.
    least_s = UNSTARTED_S if app.may_restart and not app.has_succeeded else 0.0
    kept_s = max(policy.older_than_s, least_s)
    why = f"it {app.phase}, outside Airflow"
    if app.phase is not Phase.ENDED:
        return Verdict(Action.LEAVE, why)
    if age_s > kept_s:
        return Verdict(Action.REMOVE, why)
    return Verdict(Action.LEAVE, f"{why}, and stays {_until(kept_s)}")


def _waiting(policy: Policy, age_s: float) -> Verdict:
    """Return what happens to an app that waits for room on a swarm, with or without a client."""
    why = "it waits for room, outside Airflow"
    if age_s > policy.older_than_s:
        return Verdict(Action.REMOVE, why)
    return Verdict(Action.LEAVE, f"{why}, and stays {_until(policy.older_than_s, 'launch')}")


def _until(kept_s: float, since: str = "end") -> str:
    """Return when an app goes that a user may still read, or wait for."""
    return f"until {_kept_text(kept_s)} after its {since} (--older-than)"


def _kept_text(kept_s: float) -> str:
    return duration_text(kept_s) if kept_s % _DAY_S else age_text(kept_s)


def _without_task(app: LaunchedContainers, over: str, policy: Policy, age_s: float) -> Verdict:
    """Return what happens to an app whose task will not run again."""
    keeps_failed = app.on_finish == OnFinish.KEEP_FAILED
    is_deleted = app.on_finish == OnFinish.DELETE or (keeps_failed and app.has_succeeded)
    if app.phase is Phase.UNSTARTED:
        return Verdict(Action.REMOVE, f"its launch broke off, and {over}")
    if app.phase is Phase.RUNS:
        if is_deleted or keeps_failed:
            action = Action.STOP if keeps_failed else Action.REMOVE
            return Verdict(action, f"it runs, and {over}")
        # Such a task may end before its app, on purpose.
        return Verdict(Action.LEAVE, f"it runs, {over}, and its task does not end it")
    if is_deleted or age_s > policy.older_than_s:
        return Verdict(Action.REMOVE, over if is_deleted else f"it was kept, and {over}")
    return Verdict(Action.LEAVE, f"its task keeps it {_until(policy.older_than_s)}")


def volume_verdict(
    task: TaskKey | None, state: str | None, policy: Policy, unused_s: float | None
) -> Verdict:
    """Return what happens to a volume with checkpoints that no container mounts.

    Args:
        task: the only task instance that uses it; None if others may.
        state: the state of that, as for `verdict`.
        policy: what the user wants.
        unused_s: seconds since its DAG run has ended, or since the volume was created if the run
            was deleted; None if it has not ended.
    """
    if task is None:
        return Verdict(Action.LEAVE, "other runs or tasks may use it")
    if why := _owned(state, policy):
        return Verdict(Action.LEAVE, why)
    if unused_s is None:
        return Verdict(Action.LEAVE, "its DAG run has not ended")
    if unused_s <= policy.older_than_s:
        why = f"it was used less than {_kept_text(policy.older_than_s)} ago (--older-than)"
        return Verdict(Action.LEAVE, why)
    return Verdict(Action.REMOVE, f"it has checkpoints, and {_over(state)}")


#: How long a container may exist that a workspace is added to, in seconds; it never runs.
BUILD_S: Final = 3600.0
#: How long the container that lists GPUs may exist, in seconds; it takes a second.
PROBE_S: Final = 600.0


def leftover(row: ContainerRow, state: str | None, policy: Policy, now: datetime) -> str | None:
    """Return why a container that is not a replica has no owner; None if it may have one.

    The state is that of the task instance in its labels, as for `verdict`. A ticket outside
    Airflow is left: the next app that waits asks its client whether it still waits.
    """
    age_s = (now - row.created_at).total_seconds()
    is_idle = row.state in {"created", "exited", "dead"}
    if is_idle and is_discarded(row.id, row.name):
        return "a client was killed while it removed it" if age_s > UNSTARTED_S else None
    if row.state == "created" and row.name.startswith(BUILD_PREFIX):
        # A workspace of many GB takes minutes.
        return "its build broke off" if age_s > BUILD_S else None
    if labels.SWARM_LOCK in row.labels:
        return "its client was killed" if is_idle and age_s > UNSTARTED_S else None
    marker = marker_of(row)
    if marker == "probe":
        return "its client was killed" if age_s > PROBE_S else None
    is_over = state in _OVER or (state == GONE and policy.gone)
    if marker and is_idle and is_over and TaskKey.of(row.labels) is not None:
        return f"its task is over ({state})"
    is_expired = marker in {"claim", "lock"} and age_s > timeout_s(row) + UNSTARTED_S
    return "it has expired" if is_idle and is_expired else None


def surplus_images(
    images: Iterable[ImageRow], rows: Iterable[ContainerRow], keep: int
) -> tuple[ImageRow, ...]:
    """Return the images of each workspace beyond the newest ``keep`` that no container uses."""
    used = {row.image for row in rows}
    by_workspace: dict[str, list[ImageRow]] = {}
    for image in images:
        by_workspace.setdefault(image.labels.get(labels.WORKSPACE_ID, ""), []).append(image)
    old = (one for of in by_workspace.values() for one in surplus(of, keep + 1, newest=""))
    return tuple(one for one in old if used.isdisjoint((one.id, *one.tags)))


_KINDS: Final = ("app", "container", "image", "volume")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What has no owner.

    Args:
        kind: what it is.
        name: app id, name of a container, or tag of an image, or volume; any client can write it.
        since: when its last container was created, or has ended; the end of a volume's DAG run.
        task: the task instance that it is of; None outside Airflow.
        key: id of the launch or the container.
        size_bytes: what its containers have written; None for an image, whose layers others share.
    """

    kind: Literal["app", "container", "image", "volume"]
    name: str
    why: str
    since: datetime
    action: Action = Action.REMOVE
    task: TaskKey | None = None
    key: str = ""
    size_bytes: int | None = None

    def to_json(self) -> dict[str, str | int | None]:
        """Return it as JSON data; no key is ever removed."""
        return {
            "kind": self.kind,
            "name": self.name,
            "action": self.action.value,
            "why": self.why,
            "since": self.since.isoformat(),
            "task": None if self.task is None else str(self.task),
            "size_bytes": self.size_bytes,
        }

    def row(self, now: datetime) -> tuple[str, ...]:
        """Return the cells of a table: what, why, age, size and task."""
        age = age_text((now - self.since).total_seconds())
        task = "" if self.task is None else str(self.task)
        what = f"{self.kind} {labels.printable(self.name)}"
        written = "" if self.size_bytes is None else size(self.size_bytes)
        return what, labels.printable(f"{self.action}: {self.why}"), age, written, task


def counted_text(found: Collection[Found], done: str = "") -> str:
    """Return how much was found, like ``2 apps and 1 image (20 kB)``."""
    counts = Counter(one.kind for one in found)
    texts = [counted(counts[kind], kind) for kind in _KINDS if counts[kind]]
    written = sum(one.size_bytes or 0 for one in found if one.action is Action.REMOVE)
    amount = f" ({size(written)})" if written else ""
    return f"{done}{' and '.join(texts) or 'nothing'}{amount}"
