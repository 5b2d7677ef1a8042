"""What the journal of `gpu_race` shows: overlaps, overtaking, and how long GPUs were idle."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from tests.integration.gpu_launches import JOURNAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

#: Why GPUs may be idle, what takes longest first: a process has stopped, or a dead one has left one
#: of these.
CAUSES: Final = ("stopped", "replica", "claim", "lock", "ticket", "nothing")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line.

    Args:
        t: seconds since the start of the machine.
        who: the launch, or the replica.
        did: what it did.
        id: the container of a request.
        name: of a replica that is created.
        gpus: the ids of a claim or a replica.
        status: of the response.
        count: number of GPUs of a launch.
        text: anything else.
    """

    t: float
    who: str
    did: str
    id: str = ""
    name: str = ""
    gpus: frozenset[str] = frozenset()
    status: int = 0
    count: int = 0
    text: str = ""

    @classmethod
    def parse(cls, line: str) -> Self:
        """Return the entry of a line."""
        found = json.loads(line)
        gpus = frozenset(filter(None, found.pop("gpus", "").split(",")))
        return cls(gpus=gpus, **found)

    @property
    def app(self) -> str:
        """The app of a launch, which several tries may launch."""
        return self.who.partition(".")[0]

    @property
    def is_done(self) -> bool:
        """Whether the request was carried out."""
        return self.did.startswith("after") and self.status < 400


def read(folder: Path) -> list[Entry]:
    """Return the entries of a race."""
    return [Entry.parse(line) for line in (folder / JOURNAL).read_text().splitlines()]


def overlaps(entries: Iterable[Entry]) -> list[str]:
    """Return where a replica used a GPU that another one still used."""
    users: dict[str, str] = {}
    names: dict[str, str] = {}
    # A replica that is killed does not say that it ends; it may even start after the request.
    killed = set[str]()
    found = []
    for entry in entries:
        if entry.did == "after create replica" and entry.id:
            names[entry.id] = entry.name
        elif entry.did == "use":
            found += [
                f"{entry.who} uses {one} at {entry.t}, which {users[one]} uses"
                for one in sorted(entry.gpus)
                if one in users
            ]
            if entry.who not in killed:
                users |= dict.fromkeys(entry.gpus, entry.who)
        elif entry.did in ("end", "before remove replica"):
            ended = names.get(entry.id, entry.who)
            killed |= {ended} if entry.id else set()
            users = {one: user for one, user in users.items() if user != ended}
    return found


def wrong_uses(entries: Sequence[Entry]) -> list[str]:
    """Return the apps that were launched whose replicas did not use as many GPUs as they need.

    An app of which others have removed a replica, because it did not start for long, is lost.
    """
    counts = {entry.who: entry.count for entry in entries if entry.did == "launch"}
    names = {entry.id: entry.name for entry in entries if entry.did == "after create replica"}
    lost = {
        names[entry.id].partition("/")[0]
        for entry in entries
        if entry.did == "before remove replica" and entry.id in names
    }
    uses = Counter[str]()
    for entry in entries:
        if entry.did == "use":
            uses[entry.who.partition("/")[0]] += len(entry.gpus)
    return [
        f"app {entry.text} uses {uses[entry.text]} GPUs, not {counts[entry.who]}"
        for entry in entries
        if entry.did == "launched"
        and uses[entry.text] != counts[entry.who]
        and entry.text not in lost
    ]


class Ticket(NamedTuple):
    """A place in the queue, and where in the journal it was made and removed.

    It may be there from ``began`` to ``gone``, and is certainly there from ``made`` to ``leaves``.
    """

    app: str
    began: int
    made: int
    leaves: int
    gone: int


def overtaken(entries: Sequence[Entry]) -> list[str]:
    """Return where an app took GPUs although an older ticket was there all the time it decided.

    A ticket is older than another one if it was there before the other one was asked for.
    """
    tickets = list(_tickets(entries))
    found = []
    for listed, claimed, _ in _decisions(entries):
        entry = entries[claimed]
        own = [one.began for one in tickets if one.app == entry.app and listed < one.gone]
        place = min((began for began in own if began < listed), default=len(entries))
        found += [
            f"{entry.who} takes GPUs at {entry.t}, but app {one.app} has an older ticket"
            for one in tickets
            if one.app != entry.app and one.made < min(listed, place) and claimed < one.leaves
        ]
    return found


def _tickets(entries: Sequence[Entry]) -> Iterator[Ticket]:
    began: dict[str, int] = {}
    leaves: dict[str, int] = {}
    gone: dict[str, int] = {}
    last = len(entries)
    for at, entry in enumerate(entries):
        if entry.did == "before rename ticket":
            leaves.setdefault(entry.id, at)
        elif entry.did == "after rename ticket":
            gone.setdefault(entry.id, at)
    for at, entry in enumerate(entries):
        if entry.did == "before create ticket":
            began[entry.who] = at
        elif entry.did == "after create ticket" and entry.is_done:
            ends = leaves.get(entry.id, last), gone.get(entry.id, last)
            yield Ticket(entry.app, began[entry.who], at, *ends)


def outdated(entries: Sequence[Entry]) -> list[str]:
    """Return where an app claimed GPUs although another one had, since it listed the containers."""
    decisions = list(_decisions(entries))
    pairs = [
        (entries[one.made], entries[other.made])
        for one in decisions
        for other in decisions
        if one.listed < other.claimed and other.made < one.made
    ]
    return [
        f"{late.who} claims GPUs at {late.t} and has not seen that {early.who} has at {early.t}"
        for late, early in pairs
    ]


class Decision(NamedTuple):
    """Where in the journal an app lists containers, and asks for a claim and gets it."""

    listed: int
    claimed: int
    made: int


def _decisions(entries: Sequence[Entry]) -> Iterator[Decision]:
    """Yield the decisions that led to replicas."""
    listed: dict[str, int] = {}
    claimed: dict[str, int] = {}
    made: dict[str, Decision] = {}
    for at, entry in enumerate(entries):
        if entry.did == "before list in lock":
            listed[entry.who] = at
        elif entry.did == "before create claim":
            claimed[entry.who] = at
        elif entry.did == "after create claim" and entry.is_done:
            made[entry.who] = Decision(listed[entry.who], claimed[entry.who], at)
        elif entry.did == "before rename claim":
            # It is not in the lock any more, and removes the claim; it may adopt another one.
            made.pop(entry.who, None)
        elif entry.did == "before create replica" and entry.who in made:
            yield made.pop(entry.who)


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
