"""Evaluates a sensor's condition on an app.

* SUBMITTED, PENDING and RUNNING as a target mean "at least": a replica that has SUCCEEDED meets
  RUNNING, too.
* The state of an app depends on its essential roles.
* SUCCEEDED, FAILED and CANCELLED as a target hold for an app or role when all its replicas have
  ended.
* A state in ``failed`` counts at once, while other replicas still run.
* A condition that can no longer hold is `Unreachable`, so it is never `Pending` for an app whose
  replicas have all ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.state.condition import state_names
from airflow_torchx.core.state.describe import FAILURE_POLICY, app_state, replicas_of
from airflow_torchx.core.state.essential import essential_replicas, is_essential
from airflow_torchx.specs import AppState, is_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.state.condition import Condition
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

# The possible final states of an app that is in this state.
_FINAL_STATES: Final = {
    AppState.FAILED: frozenset({AppState.FAILED}),
    AppState.CANCELLED: frozenset({AppState.CANCELLED, AppState.FAILED}),
}


@dataclass(frozen=True)
class _Result:
    """The state of the app or role, and one sentence for the user."""

    state: AppState
    message: str


class Met(_Result):
    """The condition holds."""


class Unreachable(_Result):
    """The condition can no longer hold, or a failed state came first."""


class Pending(_Result):
    """The condition may hold later."""


def evaluate(app: DescribeAppResponse, condition: Condition) -> Met | Unreachable | Pending:
    """Return whether a condition holds for an app, whatever the order of its replicas.

    The labels of TorchX's command line do not have the number of replicas. During its launch, the
    existing replicas count as all; use ``min_replicas`` to wait for more.
    """
    part = _Part.of(app, condition.role)
    if condition.role is not None and condition.role not in _roles(app):
        return _without_role(app, part, condition)
    if condition.min_replicas is None:
        return _evaluate_state(part, condition)
    return _evaluate_count(part, condition, condition.min_replicas)


@dataclass(frozen=True, slots=True)
class _Part:
    """A whole app or one role of it."""

    name: str
    replicas: Sequence[ReplicaStatus]
    #: Number of replicas, including those not created yet.
    size: int
    is_size_final: bool

    @classmethod
    def of(cls, app: DescribeAppResponse, role: str | None) -> _Part:
        whole = role is None
        return cls(
            name=f"app {app.app_id!r}" if whole else f"role {role!r} of app {app.app_id!r}",
            replicas=(
                essential_replicas(app)
                if whole
                else [r for r in replicas_of(app) if r.role == role]
            ),
            size=sum(
                r.num_replicas
                for r in app.roles
                if (is_essential(app, r.name) if whole else r.name == role)
            ),
            # A launch that labels the failure policy also labels the roles.
            is_size_final=FAILURE_POLICY in app.metadata or _ended(replicas_of(app)),
        )

    @property
    def state(self) -> AppState:
        return app_state(replica.state for replica in self.replicas)


def _evaluate_state(part: _Part, condition: Condition) -> Met | Unreachable | Pending:
    state, ended, wanted = part.state, _ended(part.replicas), state_names(condition.targets)
    complete = len(part.replicas) >= part.size
    if state in condition.failed:
        return Unreachable(state, f"{part.name} is {state} instead of {wanted}.")
    if condition.met_by(state) and complete and (ended or not is_terminal(state)):
        return Met(state, f"{part.name} is {state}.")
    if ended or (state in _FINAL_STATES and condition.targets.isdisjoint(_FINAL_STATES[state])):
        return Unreachable(state, f"{part.name} is {state} and will not become {wanted}.")
    return Pending(state, f"{part.name} is {state}; waiting for {wanted}.")


def _evaluate_count(part: _Part, condition: Condition, needed: int) -> Met | Unreachable | Pending:
    good = [r for r in part.replicas if condition.met_by(r.state)]
    others = [r for r in part.replicas if not condition.met_by(r.state)]
    lost = [r for r in others if is_terminal(r.state) or r.state in condition.failed]
    wanted = state_names(condition.targets)
    what = f"{len(good)} of {part.size} replicas of {part.name} have reached {wanted}"
    if len(good) >= needed:
        return Met(part.state, f"{what}.")
    if part.is_size_final and part.size - len(lost) < needed:
        return Unreachable(part.state, f"{what} and {len(lost)} cannot; {needed} are needed.")
    return Pending(part.state, f"{what}; waiting for {needed}.")


def _without_role(
    app: DescribeAppResponse, part: _Part, condition: Condition
) -> Unreachable | Pending:
    what = f"app {app.app_id!r} has no role {condition.role!r}"
    if part.is_size_final:
        return Unreachable(app.state, f"{what}.\nIts roles are {', '.join(_roles(app))}.")
    return Pending(app.state, f"{what} yet.")


def _roles(app: DescribeAppResponse) -> list[str]:
    return [role.role for role in app.roles_statuses]


def _ended(replicas: Sequence[ReplicaStatus]) -> bool:
    return bool(replicas) and all(is_terminal(replica.state) for replica in replicas)
