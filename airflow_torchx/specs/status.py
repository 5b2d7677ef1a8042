"""How an app is doing: states, and what a scheduler says about an app and its replicas."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from airflow_torchx.specs.app import NONE
from airflow_torchx.specs.frozen import freeze_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_torchx.specs.app import Role


class AppState(int, Enum):
    """State of an app or of a replica; ``str()`` gives the name."""

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
    """Tell whether ``state`` is final; UNKNOWN is not."""
    return state in _TERMINAL


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """How one replica is doing.

    Args:
        id: index of the replica in its role, from 0.
        state: its state.
        role: name of its role.
        hostname: its host name on the app's network.
        structured_error_msg: JSON the replica wrote about its error.
        hostaddr: its address; the host name when None.
        exit_code: exit code of the command; None while it runs, and when it never ran.
        signal: name of the signal that killed it, like ``SIGKILL``.
        oom_killed: it was killed because it needed too much memory.
        error: the Engine's own words on why it did not start.
        num_restarts: how often it was started again; None when that is not known.
        started_at: when it was started.
        finished_at: when it ended.
        container_id: id of its container.
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

    def __post_init__(self) -> None:
        if self.hostaddr is None:
            object.__setattr__(self, "hostaddr", self.hostname)

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end, never negative; None before the end."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """How the replicas of one role are doing."""

    role: str
    replicas: Sequence[ReplicaStatus]

    def __post_init__(self) -> None:
        freeze_fields(self, lists=("replicas",))


@dataclass(frozen=True, slots=True)
class DescribeAppResponse:
    """What a scheduler knows of one app.

    Args:
        app_id: id of the app.
        state: state of the app as a whole.
        num_restarts: how often the app was started again; -1 when that is not known.
        msg: one line for people.
        structured_error_msg: JSON about the first error.
        ui_url: page that shows the app.
        metadata: metadata of the app.
        roles_statuses: how the replicas are doing, role by role.
        roles: what the roles are, as far as the scheduler can tell.
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
    """One line of a scheduler's list of apps."""

    app_id: str
    state: AppState
    app_handle: str = "<NOT_SET>"
    name: str = ""
