"""Defines the states of apps and replicas, and the responses that report them."""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.specs.app import NONE
from airflow_torchx.specs.frozen import freeze_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_torchx.specs.app import Role
    from airflow_torchx.specs.usage import ReplicaUsage


class AppState(int, Enum):
    """Names the state of an app or a replica; ``str()`` returns the name."""

    UNSUBMITTED = 0
    SUBMITTED = 1
    PENDING = 2
    RUNNING = 3
    SUCCEEDED = 4
    FAILED = 5
    CANCELLED = 6
    UNKNOWN = 7

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"{self.name} ({self.value})"


ReplicaState = AppState

_TERMINAL: Final = frozenset({AppState.SUCCEEDED, AppState.FAILED, AppState.CANCELLED})


def is_terminal(state: AppState) -> bool:
    """Return whether ``state`` is final; UNKNOWN is not."""
    return state in _TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFailure:
    """Describes why a process in a replica failed, as torchrun or PyTorch's ``@record`` reports it.

    Args:
        rank: global rank of the worker; None if it is unknown, or for the replica's main process.
        exit_code: its exit code, 128 plus the signal's number as Docker counts; None if unknown.
        signal: name of the signal that killed it, like ``SIGSEGV``.
        message: its error, like ``ValueError: loss is NaN``; may be empty.
        traceback: its traceback; may be empty.
        failed_at: when it failed.
    """

    rank: int | None = None
    exit_code: int | None = None
    signal: str | None = None
    message: str = ""
    traceback: str = ""
    failed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """Describes the status of one replica.

    Args:
        id: index of the replica in its role, from 0.
        state: its state.
        role: name of its role.
        hostname: its host name on the app's network.
        structured_error_msg: JSON error that the replica wrote.
        hostaddr: its address; the host name if None.
        exit_code: exit code of the command; None if it is running or never ran.
        signal: name of the signal that killed it, like ``SIGKILL``.
        oom_killed: whether it was killed for exceeding its memory.
        error: the Engine's error if it did not start.
        num_restarts: number of restarts; None if unknown.
        started_at: time of its start.
        finished_at: time of its end.
        container_id: id of its container.
        gpus: ids of its GPUs.
        stalled: whether it was stopped because its app made no progress.
        worker: why a process in it failed; None if that is unknown, or not looked up.
        round: how often new containers had been started in place of failed ones.
        rule: name of the failure rule that explains its failure; empty without one.
        created_at: time at which its container was created.
        usage: what it uses or has used; None if that is unknown, or not sampled.
        node: name of the node of a swarm that it is on; empty for none.
    """

    id: int
    state: ReplicaState
    role: str
    hostname: str
    structured_error_msg: str = NONE
    hostaddr: str | None = None
    _: KW_ONLY
    exit_code: int | None = None
    signal: str | None = None
    oom_killed: bool = False
    error: str = ""
    num_restarts: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    container_id: str = ""
    gpus: Sequence[str] = ()
    stalled: bool = False
    worker: WorkerFailure | None = None
    round: int = 0
    rule: str = ""
    usage: ReplicaUsage | None = None
    created_at: datetime | None = None
    node: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.gpus, tuple):
            object.__setattr__(self, "gpus", tuple(self.gpus))
        if self.hostaddr is None:
            object.__setattr__(self, "hostaddr", self.hostname)

    @property
    def blamed_exit_code(self) -> int | None:
        """Return the exit code of the worker that failed, else that of the command.

        torchrun ends with code 1 whatever its workers end with.
        """
        if self.worker is not None and self.worker.exit_code is not None:
            return self.worker.exit_code
        return self.exit_code

    @property
    def duration_s(self) -> float | None:
        """Return the seconds from start to end, never negative; None before the end."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """Describes the status of one role's replicas."""

    role: str
    replicas: Sequence[ReplicaStatus]

    def __post_init__(self) -> None:
        freeze_fields(self, lists=("replicas",))

    def to_json(self) -> dict[str, Any]:
        """Return JSON data in TorchX's form; a state is a number, and its name is added."""
        return {"role": self.role, "replicas": [_replica_json(one) for one in self.replicas]}


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Return data with its times as texts."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in data.items()
    }


def _replica_json(replica: ReplicaStatus) -> dict[str, Any]:
    data = _plain(asdict(replica))
    if replica.worker is not None:
        data["worker"] = _plain(data["worker"])
    if replica.usage is not None:
        data["usage"] = _plain(data["usage"])
    return data | {"state": replica.state.value, "state_name": replica.state.name}


@dataclass(frozen=True, slots=True)
class DescribeAppResponse:
    """Describes an app as a scheduler sees it.

    Args:
        app_id: id of the app.
        state: state of the app as a whole.
        num_restarts: number of restarts of the app; -1 if unknown.
        msg: one line for humans.
        structured_error_msg: JSON about the first error.
        ui_url: URL of a page about the app.
        metadata: metadata of the app.
        roles_statuses: status of the replicas, by role.
        roles: the roles, as far as the scheduler can reconstruct them.
    """

    app_id: str = "<NOT_SET>"
    state: AppState = AppState.UNSUBMITTED
    num_restarts: int = -1
    msg: str = NONE
    structured_error_msg: str = NONE
    ui_url: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    roles_statuses: Sequence[RoleStatus] = ()
    roles: Sequence[Role] = ()

    def __post_init__(self) -> None:
        freeze_fields(self, lists=("roles_statuses", "roles"), dicts=("metadata",))


@dataclass(frozen=True, slots=True)
class ListAppResponse:
    """Describes one entry of a scheduler's list of apps; TorchX has no ``created_at``."""

    app_id: str
    state: AppState
    app_handle: str = "<NOT_SET>"
    name: str = ""
    created_at: datetime | None = None
