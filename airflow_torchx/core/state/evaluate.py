"""Whether an app has come as far as somebody waits for it to come; pure.

* A state of life as a target (SUBMITTED, PENDING, RUNNING) means "at least that far": who waits for
  RUNNING is served by a replica that runs, and by one that has SUCCEEDED, since it has run.
* A final state as a target (SUCCEEDED, FAILED, CANCELLED) means the end: it counts for the whole
  when every replica has ended.
* A state in ``failed`` counts at once, while other replicas still run.
* What can hold no more is missed, not waited for: who has ended comes no further. So an app whose
  replicas have all ended is never "not yet".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.state.condition import names
from airflow_torchx.core.state.describe import FAILURE_POLICY, app_state, replicas_of
from airflow_torchx.specs import AppState, is_terminal
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.state.condition import Condition
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

# What a whole can end as once it is in this state, whatever its live replicas do.
_ENDS_AS: Final = {
    AppState.FAILED: frozenset({AppState.FAILED}),
    AppState.CANCELLED: frozenset({AppState.CANCELLED, AppState.FAILED}),
}


@dataclass(frozen=True, slots=True)
class Met:
    """The condition holds.

    Args:
        state: state of what was looked at, the app or one role.
        message: one sentence for people.
    """

    state: AppState
    message: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The condition cannot hold any more, or a failed state came first; fields as `Met`'s."""

    state: AppState
    message: str


@dataclass(frozen=True, slots=True)
class Pending:
    """The condition may hold later; fields as `Met`'s."""

    state: AppState
    message: str


def evaluate(app: DescribeAppResponse, condition: Condition) -> Met | Unreachable | Pending:
    """Return whether a condition holds for an app; the order of its replicas does not matter.

    An app of TorchX's own command line does not tell how many replicas it will have, so while it is
    being launched those that are there count as all; ``min_replicas`` says how many there must be.
    """
    part = _Part.of(app, condition.role)
    if condition.role is not None and condition.role not in _roles(app):
        return _without_role(app, part, condition)
    if condition.min_replicas is None:
        return _whole(part, condition)
    return _enough(part, condition, condition.min_replicas)


@dataclass(frozen=True, slots=True)
class _Part:
    """What of an app is looked at: all of it, or one role."""

    name: str
    replicas: Sequence[ReplicaStatus]
    #: How many replicas it has, those that are not created yet included.
    size: int
    #: Nobody will add replicas to ``size``.
    settled: bool

    @classmethod
    def of(cls, app: DescribeAppResponse, role: str | None) -> _Part:
        whole = role is None
        return cls(
            name=f"app {app.app_id!r}" if whole else f"role {role!r} of app {app.app_id!r}",
            replicas=[r for r in replicas_of(app) if whole or r.role == role],
            size=sum(r.num_replicas for r in app.roles if whole or r.name == role),
            # Whoever writes the failure policy on the containers writes the roles there too.
            settled=FAILURE_POLICY in app.metadata or _ended(replicas_of(app)),
        )

    @property
    def state(self) -> AppState:
        return app_state(replica.state for replica in self.replicas)


def _whole(part: _Part, condition: Condition) -> Met | Unreachable | Pending:
    state, ended = part.state, _ended(part.replicas)
    complete = len(part.replicas) >= part.size
    if state in condition.failed:
        return Unreachable(state, f"{part.name} is {state}, and {condition_text(condition)}.")
    if condition.met_by(state) and complete and (ended or not is_terminal(state)):
        return Met(state, f"{part.name} is {state}.")
    if ended or (state in _ENDS_AS and condition.targets.isdisjoint(_ENDS_AS[state])):
        what = f"{part.name} is {state} and comes no further: {condition_text(condition)}."
        return Unreachable(state, what)
    return Pending(state, f"{part.name} is {state}: {condition_text(condition)}.")


def _enough(part: _Part, condition: Condition, needed: int) -> Met | Unreachable | Pending:
    good = [r for r in part.replicas if condition.met_by(r.state)]
    others = [r for r in part.replicas if not condition.met_by(r.state)]
    out = [r for r in others if is_terminal(r.state) or r.state in condition.failed]
    told = f"{len(good)} of {part.size} replicas of {part.name}"
    if len(good) >= needed:
        return Met(part.state, f"{told} are as far as {names(condition.targets)}.")
    if part.settled and part.size - len(out) < needed:
        what = f"{told} are as far as wanted, and {len(out)} come no further"
        return Unreachable(part.state, f"{what}: {condition_text(condition)}.")
    return Pending(part.state, f"{told} are as far as wanted: {condition_text(condition)}.")


def _without_role(
    app: DescribeAppResponse, part: _Part, condition: Condition
) -> Unreachable | Pending:
    what = f"app {app.app_id!r} has no role {condition.role!r}"
    if part.settled:
        return Unreachable(app.state, f"{what}; {suggest(condition.role or '', _roles(app))}")
    return Pending(app.state, f"{what} yet.")


def condition_text(condition: Condition) -> str:
    """Return what is waited for, as the end of a sentence."""
    states = names(condition.targets)
    if condition.min_replicas is None:
        return f"{states} was waited for"
    return f"{condition.min_replicas} in {states} were waited for"


def _roles(app: DescribeAppResponse) -> list[str]:
    return [role.role for role in app.roles_statuses]


def _ended(replicas: Sequence[ReplicaStatus]) -> bool:
    return bool(replicas) and all(is_terminal(replica.state) for replica in replicas)
