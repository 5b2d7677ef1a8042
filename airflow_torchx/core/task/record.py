"""The values that a task stores in Airflow's database for its later processes.

Another release may read them after an upgrade or a downgrade. Unknown fields are ignored, and
missing ones get their defaults. A mapping without a required field, or with a field of another
type, is ignored, because the labels of the containers have the same facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, get_type_hints

from airflow_torchx.core.gpu.demand import GpuDemand
from airflow_torchx.core.logs.cursor import Cursor

if TYPE_CHECKING:
    from airflow_torchx.core.plan.identity import TaskAttempt
    from airflow_torchx.core.plan.job_plan import JobPlan
    from airflow_torchx.core.plan.options import Opts

_Stored = TypeVar("_Stored")

#: Key of a `TaskRecord` in the task's state store.
RECORD_KEY: Final = "airflow-torchx/app"
#: Phases of a `TaskRecord`, in order.
LAUNCHING: Final = "launching"
SUCCEEDED: Final = "succeeded"
RESULT_REJECTED: Final = "result_rejected"

_SAVE: Final = "checkpoint_s"


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchedApp:
    """The app of a task.

    Args:
        stop_grace_s: seconds between SIGTERM and SIGKILL.
        checkpoint_s: seconds that its replicas need to save, before that; 0 if they have no signal
            for it.
    """

    app_id: str
    handle: str
    launch_id: str
    config_hash: str
    stop_grace_s: float
    checkpoint_s: float = 0.0

    @classmethod
    def of(cls, plan: JobPlan, opts: Opts, config_hash: str) -> Self:
        """Return the app that a plan launches."""
        return cls(
            app_id=plan.app_id,
            handle=plan.handle,
            launch_id=plan.launch_id,
            config_hash=config_hash,
            stop_grace_s=opts.stop_grace_s,
            checkpoint_s=opts.save_s or 0.0,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the app as JSON data; what is about checkpoints only if it is set."""
        return {name: value for name, value in asdict(self).items() if name != _SAVE or value}

    def save_at_s(self, deadline_s: float | None, timeout_s: float) -> float | None:
        """Return when its replicas are asked to save, because the task must end at a deadline.

        Both times are in seconds since 1970. None if they are not asked: without a deadline or a
        signal, or if a save takes as long as the task has at all (``timeout_s``).
        """
        if deadline_s is None or not 0 < self.checkpoint_s < timeout_s:
            return None
        return deadline_s - self.checkpoint_s


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRecord:
    """What a task stores about its app in its state store.

    Args:
        max_tries: ``ti.max_tries`` at the launch; a clear raises it, a retry does not.
        phase: ``launching`` from the launch on, ``succeeded`` with the ``result``,
            ``result_rejected`` if the app's result cannot be used.
        result: return value of the task.
    """

    app_id: str
    handle: str
    max_tries: int
    config_hash: str
    phase: str = LAUNCHING
    result: Any = None

    @classmethod
    def of(cls, app: LaunchedApp, attempt: TaskAttempt) -> Self:
        """Return the record of an app that is about to be launched."""
        return cls(
            app_id=app.app_id,
            handle=app.handle,
            max_tries=attempt.max_tries,
            config_hash=app.config_hash,
        )

    @classmethod
    def parse(cls, stored: object) -> Self | None:
        """Return a stored record; None if it cannot be used."""
        return _read(cls, stored)

    def at(self, phase: str, result: Any = None) -> Self:  # noqa: ANN401 - any JSON
        """Return the record in a later phase."""
        return replace(self, phase=phase, result=result)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Deferral:
    """The arguments of ``execute_complete``, which Airflow stores while the trigger waits.

    Args:
        app: the app; None to look it up on the daemon.
        cursors: how far the log of each replica has been copied, by ``role/replica``.
        gpu_demand: what the task waits for, if it waits for GPUs and has no app yet.
        upload_at_s: when checkpoints are uploaded next, in seconds since 1970; None for never.
        wait_since_s: when the task began to wait for its app, in seconds since 1970.
    """

    app: LaunchedApp | None = None
    cursors: Mapping[str, Cursor] = field(default_factory=dict)
    gpu_demand: GpuDemand | None = None
    upload_at_s: float | None = None
    wait_since_s: float | None = None

    @property
    def app_id(self) -> str | None:
        """The id of the app, if known."""
        return self.app.app_id if self.app else None

    @classmethod
    def parse(cls, stored: Mapping[str, Any]) -> Self:
        """Return a stored deferral.

        A log without a valid cursor is copied again from its beginning.
        """
        given = stored.get("cursors")
        cursors = given if isinstance(given, Mapping) else {}
        read = {name: _read(Cursor, cursor) for name, cursor in cursors.items()}
        return cls(
            upload_at_s=_seconds(stored, "upload_at_s"),
            wait_since_s=_seconds(stored, "wait_since_s"),
            app=_read(LaunchedApp, stored.get("app")),
            cursors={name: cursor for name, cursor in read.items() if cursor is not None},
            gpu_demand=GpuDemand.parse(stored.get("gpu_demand")),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the deferral as JSON data; GPUs, times and rules only if they are set."""
        cursors = {name: asdict(cursor) for name, cursor in self.cursors.items()}
        for cursor in cursors.values():
            if not cursor["rules"]:
                del cursor["rules"]
        data: dict[str, Any] = {"app": self.app.to_json() if self.app else None, "cursors": cursors}
        if self.gpu_demand is not None:
            data["gpu_demand"] = self.gpu_demand.to_json()
        if self.upload_at_s is not None:
            data["upload_at_s"] = self.upload_at_s
        if self.wait_since_s is not None:
            data["wait_since_s"] = self.wait_since_s
        return data


def _seconds(stored: Mapping[str, Any], name: str) -> float | None:
    value = stored.get(name)
    return value if isinstance(value, float) else None


def _read(kind: type[_Stored], stored: object) -> _Stored | None:
    """Return a dataclass from its stored mapping; None if a field is missing or of another type."""
    if not isinstance(stored, Mapping):
        return None
    kinds = get_type_hints(kind)
    given = {name: stored[name] for name in kinds if name in stored}
    if not all(_fits(value, kinds[name]) for name, value in given.items()):
        return None
    try:
        return kind(**given)
    except TypeError:
        return None


def _fits(value: object, kind: Any) -> bool:  # noqa: ANN401 - an annotation
    if kind is Any or isinstance(value, bool):
        return kind is Any
    return isinstance(value, int | float if kind is float else kind)
