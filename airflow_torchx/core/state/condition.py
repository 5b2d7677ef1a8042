"""The condition that a sensor waits for; cheap to import, because DAG files import it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_torchx.errors import ConditionError
from airflow_torchx.specs import AppState
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable

# The states of a successful replica, in order.
_PROGRESS: Final = (
    AppState.UNSUBMITTED,
    AppState.SUBMITTED,
    AppState.PENDING,
    AppState.RUNNING,
    AppState.SUCCEEDED,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """States of an app, a role or some replicas to wait for; one of the targets is enough.

    Args:
        failed: states that end the wait as a failure.
        role: the role whose replicas count; None for all roles.
        min_replicas: how many replicas have to reach a target state, whatever the others do; None
            for the state of the whole app or role.

    Raises:
        ConditionError: the condition can never hold, or contradicts itself.
    """

    targets: frozenset[AppState]
    failed: frozenset[AppState] = frozenset()
    role: str | None = None
    min_replicas: int | None = None

    def __post_init__(self) -> None:
        if not self.targets:
            raise ConditionError("no target state is given.", fix='Give one, like "SUCCEEDED".')
        both = self.targets & self.failed
        if both:
            what = f"{state_names(both)} cannot be both a target state and a failed state."
            raise ConditionError(what, fix="Remove it from one of them.")
        if self.min_replicas is not None and self.min_replicas < 1:
            what = f"min_replicas={self.min_replicas} always holds."
            raise ConditionError(what, fix="Give 1 or more, or None for all replicas.")

    @classmethod
    def parse(
        cls,
        targets: Iterable[str] | str,
        failed: Iterable[str] | str = (),
        role: str | None = None,
        min_replicas: int | str | None = None,
    ) -> Condition:
        """Return the condition for the arguments of a sensor.

        States are names, or one comma-separated string.

        Raises:
            ConditionError: an argument is invalid, or the condition can never hold.
        """
        return cls(
            targets=_states(targets),
            failed=_states(failed),
            role=None if role is None else str(role),
            min_replicas=None if min_replicas is None else _number(min_replicas),
        )

    def met_by(self, state: AppState) -> bool:
        """Return whether this state is a target, or comes after one in a replica's life."""
        if state in self.targets:
            return True
        passed = _PROGRESS[: _PROGRESS.index(state)] if state in _PROGRESS else ()
        return state not in self.failed and not self.targets.isdisjoint(passed)


def state_names(states: Iterable[AppState]) -> str:
    """Return the names of states, like ``SUCCEEDED or FAILED``."""
    return " or ".join(state.name for state in sorted(states))


def _states(value: Iterable[str] | str) -> frozenset[AppState]:
    names = value.split(",") if isinstance(value, str) else map(str, value)
    return frozenset(_state(name.strip()) for name in names)


def _state(name: str) -> AppState:
    try:
        return AppState[name]
    except KeyError:
        what = f"{name!r} is not a state; {suggest(name, AppState.__members__)}"
        raise ConditionError(what) from None


def _number(digits: int | str) -> int:
    try:
        return int(digits)
    except (TypeError, ValueError):
        what = f"min_replicas={digits!r} is not a number."
        raise ConditionError(what, fix="Give 1 or more, or None for all replicas.") from None
