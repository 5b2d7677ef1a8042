"""How long GPUs were idle in a race, as the journal of `gpu_race` shows."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.integration.gpu_journal import Entry

#: Why GPUs may be idle, what takes longest first: a process has stopped, or a dead one has left one
#: of these.
CAUSES: Final = ("stopped", "replica", "claim", "lock", "ticket", "nothing")


@dataclass
class Idle:
    """Replays a race and measures how long GPUs were idle although the first in line needed them.

    Only what live processes and running replicas hold counts as held. `waits` has the seconds by
    their cause, one of `CAUSES`; `passed_over` are live apps that others took the ticket from.
    """

    listed: int = 4
    waits: dict[str, list[float]] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)
    #: Live apps that have a ticket, oldest first, and what they need.
    _queue: dict[str, int] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    #: GPUs by live launch that has claimed them, and by running replica.
    _claimed: dict[str, frozenset[str]] = field(default_factory=dict)
    _used: dict[str, frozenset[str]] = field(default_factory=dict)
    #: Containers that have not started: their place and launch.
    _left: dict[str, tuple[str, str]] = field(default_factory=dict)
    _dead: set[str] = field(default_factory=set)
    _stopped: set[str] = field(default_factory=set)
    _replicas: dict[str, str] = field(default_factory=dict)
    _head: str = ""
    _since_s: float = 0.0
    _cause: str = "nothing"

    def replay(self, entries: Iterable[Entry]) -> Self:
        """Take all entries."""
        for entry in entries:
            self._take(entry)
            self._look(entry.t)
        return self

    def _take(self, entry: Entry) -> None:
        did, who = entry.did, entry.who
        if did == "launch":
            self._counts[who] = entry.count
        elif did == "before create replica":
            # Its claim may be that of an earlier try.
            self._claimed[who] = self._claimed.get(who, frozenset()) | entry.gpus
        elif entry.is_done:
            self._answered(entry)
        elif did == "use":
            self._used[who] = entry.gpus
            for launch, gpus in self._claimed.items():
                self._claimed[launch] = gpus - entry.gpus
        elif did == "end":
            self._used.pop(who, None)
        else:
            self._fall(did, who)

    def _fall(self, did: str, who: str) -> None:
        if did == "stop":
            self._stopped.add(who)
        elif did == "continue":
            self._stopped.discard(who)
        elif did == "die":
            self._dead.add(who)
            self._queue.pop(who, None)
            self._claimed.pop(who, None)

    def _answered(self, entry: Entry) -> None:
        verb, _, place = entry.did.removeprefix("after ").partition(" ")
        if verb == "create":
            self._left[entry.id] = place, entry.who
            if place == "ticket":
                self._queue.setdefault(entry.who, self._counts[entry.who])
            elif place == "claim":
                self._grant(entry)
            elif place == "replica":
                self._replicas[entry.id] = entry.name
        elif verb in ("rename", "remove", "start"):
            _, owner = self._left.pop(entry.id, ("", ""))
            if place == "ticket" and owner in self._queue:
                del self._queue[owner]
                self.passed_over += [owner] * (owner not in self._stopped)
            elif verb == "remove" and place == "replica":
                self._used.pop(self._replicas[entry.id], None)
                self._claimed.pop(owner, None)

    def _grant(self, entry: Entry) -> None:
        if self._queue.pop(entry.who, None) is not None and self._head == entry.who:
            self.waits.setdefault(self._cause, []).append(entry.t - self._since_s)
        self._claimed[entry.who] = entry.gpus

    def _look(self, now_s: float) -> None:
        """See who is first in line, and whether there is enough for it."""
        held = frozenset[str]().union(*self._claimed.values(), *self._used.values())
        head = next(iter(self._queue), "")
        if not head or self._queue[head] > self.listed - len(held):
            self._head = ""
            return
        if head != self._head:
            self._head, self._since_s, self._cause = head, now_s, "nothing"
        left = {place for place, who in self._left.values() if who in self._dead}
        if any(who in self._stopped for _, who in self._left.values()):
            left.add("stopped")
        self._cause = min({self._cause, *left}, key=CAUSES.index)


def report(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield lines about a race for people."""
    did = Counter(entry.did for entry in entries)
    yield (
        f"{did['launched']} apps launched in {entries[-1].t - entries[0].t:.0f} s, "
        f"{did['adopt']} of killed processes adopted, {did['fail']} launches refused"
    )
    at = Counter(entry.text for entry in entries if entry.did in ("die", "stop"))
    where = ", ".join(f"{step} {count}" for step, count in sorted(at.items()))
    yield f"{did['die']} processes killed, {did['stop']} stopped: {where}"
    idle = Idle().replay(entries)
    yield f"passed over although they ran: {', '.join(idle.passed_over) or 'none'}"
    for cause in CAUSES:
        if waits := idle.waits.get(cause):
            yield (
                f"GPUs idle while the first in line needs them, cause {cause}: {len(waits)} times, "
                f"median {statistics.median(waits):.2f} s, longest {max(waits):.2f} s"
            )
