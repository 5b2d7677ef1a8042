"""What somebody waits for of an app; pure, and cheap to import, since DAG files do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_torchx.errors import ConditionError
from airflow_torchx.specs import AppState
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable

# How far a replica can come, in order.
_LIFE: Final = (
    AppState.UNSUBMITTED,
    AppState.SUBMITTED,
    AppState.PENDING,
    AppState.RUNNING,
    AppState.SUCCEEDED,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What somebody waits for.

    Args:
        targets: states to wait for; one of them is enough.
        failed: states in which waiting any longer is pointless.
        role: only this role's replicas count; None for all of the app.
        min_replicas: so many replicas in a target state are enough, whatever becomes of the others;
            None for the state of the whole app or role, as TorchX tells it.

    Raises:
        ConditionError: it can never hold, or it contradicts itself.
    """

    targets: frozenset[AppState]
    failed: frozenset[AppState] = frozenset()
    role: str | None = None
    min_replicas: int | None = None

    def __post_init__(self) -> None:
        if not self.targets:
            raise ConditionError("there is no target state.", fix='For example "SUCCEEDED".')
        both = self.targets & self.failed
        if both:
            what = f"{names(both)} cannot be both a target state and a failed state."
            raise ConditionError(what, fix="Take it from one of them.")
        if self.min_replicas is not None and self.min_replicas < 1:
            what = f"min_replicas={self.min_replicas} would hold before anything runs."
            raise ConditionError(what, fix="Give 1 or more, or None for all replicas.")

    @classmethod
    def parse(
        cls,
        targets: Iterable[str] | str,
        failed: Iterable[str] | str = (),
        role: str | None = None,
        min_replicas: int | str | None = None,
    ) -> Condition:
        """Return the condition that these words mean.

        Args:
            targets: names of states, or one text with commas between them.
            failed: the same.
            role: as it is.
            min_replicas: a number or its digits.

        Raises:
            ConditionError: no such state, no number, or a condition that makes no sense.
        """
        return cls(
            targets=_states(targets),
            failed=_states(failed),
            role=role,
            min_replicas=None if min_replicas is None else _number(min_replicas),
        )

    def met_by(self, state: AppState) -> bool:
        """Tell whether this state is a target, or lies beyond one on a replica's way."""
        if state in self.targets:
            return True
        passed_by = _LIFE[: _LIFE.index(state)] if state in _LIFE else ()
        return state not in self.failed and not self.targets.isdisjoint(passed_by)


def names(states: Iterable[AppState]) -> str:
    """Return the names of states for people, in their order."""
    return " or ".join(state.name for state in sorted(states))


def _states(written: Iterable[str] | str) -> frozenset[AppState]:
    words = written.split(",") if isinstance(written, str) else map(str, written)
    return frozenset(_state(word.strip()) for word in words)


def _state(name: str) -> AppState:
    try:
        return AppState[name]
    except KeyError:
        what = f"there is no state {name!r}"
        raise ConditionError(f"{what}; {suggest(name, AppState.__members__)}") from None


def _number(digits: int | str) -> int:
    try:
        return int(digits)
    except ValueError:
        what = f"min_replicas={digits!r} is no number."
        raise ConditionError(what, fix="Give 1 or more, or None for all replicas.") from None
