"""When the replicas of an app changed their states, as it was seen or as the daemon says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.report import replica_name
from airflow_torchx.core.state.usage import MAX_STORED_BYTES
from airflow_torchx.core.state.usage_json import is_number
from airflow_torchx.specs import AppState, is_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

    #: Seconds since 1970, and the name of the state.
    Transition = tuple[float, str]

# The beginning and the newest restarts say most.
_FIRST: Final = 2
_LAST: Final = 10


@dataclass
class Timeline:
    """The transitions of an app's replicas by name, and the number of the last snapshot.

    An inspect knows the last start and end alone, so transitions are kept as they are seen.
    """

    seq: int = 0
    _replicas: dict[str, list[Transition]] = field(default_factory=dict)

    def see(self, app: DescribeAppResponse, now_s: float) -> bool:
        """Add what has changed; return whether any replica has another state."""
        changed = False
        for replica in replicas_of(app):
            known = self._replicas.setdefault(replica_name(replica), [])
            before = known[-1][1] if known else None
            _see(known, replica, now_s)
            known[:] = _shortened(known, _LAST)
            changed = changed or before != replica.state.name
        return changed

    def next_seq(self, now_s: float) -> int:
        """Return a number for the next snapshot that is higher than all before, of any process."""
        self.seq = max(self.seq + 1, int(now_s))
        return self.seq

    def of(self, replica: ReplicaStatus) -> Sequence[Transition]:
        """Return the transitions of a replica."""
        return self._replicas.get(replica_name(replica), ())

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data that needs `MAX_STORED_BYTES` at most.

        It has the newest transitions of each replica as far as they fit, else none of any.
        """
        for last in range(_LAST, -1, -1):
            shown = {
                name: [*map(list, _shortened(known, last))]
                for name, known in self._replicas.items()
            }
            data = {"seq": self.seq, "t": shown}
            if len(json.dumps(data)) <= MAX_STORED_BYTES:
                return data
        return {"seq": self.seq, "t": {}}

    @classmethod
    def parse(cls, stored: object) -> Self:
        """Return what `to_json` stored, perhaps of another release; without what is unusable."""
        found = stored if isinstance(stored, Mapping) else {}
        seq, data = found.get("seq"), found.get("t")
        replicas = {
            str(name): [(float(one[0]), str(one[1])) for one in _valid(known)]
            for name, known in (data.items() if isinstance(data, Mapping) else ())
        }
        return cls(int(seq) if is_number(seq) else 0, replicas)


def _valid(known: object) -> list[Any]:
    rows = known if isinstance(known, list) else []
    pairs = [one for one in rows if isinstance(one, list) and len(one) > 1]
    return [one for one in pairs if is_number(one[0]) and str(one[1]) in AppState.__members__]


def _shortened(known: Sequence[Transition], last: int) -> list[Transition]:
    """Return the first transitions, and some of the last ones."""
    return [*known[:_FIRST], *known[max(_FIRST, len(known) - last) :]]


def _see(known: list[Transition], replica: ReplicaStatus, now_s: float) -> None:
    """Add the state of a replica, and correct times that the daemon knows better."""
    created_s, started_s = _seconds(replica.created_at), _seconds(replica.started_at)
    has_ended = is_terminal(replica.state)
    # A list has no times: the end may have been seen before the create and the start.
    is_seen_end = has_ended and bool(known) and known[-1][1] == replica.state.name
    end = known.pop() if is_seen_end and not _is_after(started_s, known) else None
    # A run may begin and end while the daemon is not asked.
    is_new = not known or (
        _has_ended(known[-1][1]) and (_is_after(started_s, known) or not has_ended)
    )
    if is_new and created_s is not None:
        _add(known, created_s, AppState.SUBMITTED)
    before = known[-1][1] if known else ""
    has_run = before == AppState.SUBMITTED.name or (has_ended and before and not _has_ended(before))
    if started_s is not None and has_run:
        _add(known, started_s, AppState.RUNNING)
    if end is not None:
        known.append(end)
    at_s = started_s if replica.state is AppState.RUNNING else None
    if has_ended:
        at_s = _seconds(replica.finished_at)
    _add(known, at_s or now_s, replica.state)


def _add(known: list[Transition], at_s: float, state: AppState) -> None:
    if known and known[-1][1] == state.name:
        # What was seen is later than what the daemon did, unless the daemon did it again.
        floor_s = known[-2][0] if len(known) > 1 else 0.0
        if floor_s <= at_s < known[-1][0]:
            known[-1] = (round(at_s, 2), state.name)
        return
    floor_s = known[-1][0] if known else 0.0
    known.append((round(max(at_s, floor_s), 2), state.name))


def _is_after(started_s: float | None, known: Sequence[Transition]) -> bool:
    return started_s is not None and started_s > known[-1][0]


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _has_ended(state: str) -> bool:
    return state in {AppState.SUCCEEDED.name, AppState.FAILED.name, AppState.CANCELLED.name}
