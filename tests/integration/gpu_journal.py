"""What the journal of `gpu_race` shows: overlaps, overtaking, and launches without a claim."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.integration.gpu_launches import JOURNAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


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
    for listed, claimed, *_ in _decisions(entries):
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
    asked: dict[tuple[str, str], int] = {}
    ends: dict[str, tuple[int, int]] = {}
    last = len(entries)
    for at, entry in enumerate(entries):
        if entry.did == "before rename ticket":
            asked[entry.who, entry.id] = at
        elif entry.did == "after rename ticket" and entry.is_done:
            ends[entry.id] = asked[entry.who, entry.id], at
    for at, entry in enumerate(entries):
        if entry.did == "before create ticket":
            began[entry.who] = at
        elif entry.did == "after create ticket" and entry.is_done:
            leaves, gone = ends.get(entry.id, (last, last))
            yield Ticket(entry.app, began[entry.who], at, leaves, gone)


def outdated(entries: Sequence[Entry]) -> list[str]:
    """Return where an app claimed GPUs although another one had, since it listed the containers."""
    decisions = list(_decisions(entries))
    pairs = [
        (entries[one.made], entries[other.made])
        for one in decisions
        for other in decisions
        if one.listed < other.sent and other.made < one.made
    ]
    return [
        f"{late.who} claims GPUs at {late.t} and has not seen that {early.who} has at {early.t}"
        for late, early in pairs
    ]


class Decision(NamedTuple):
    """Where in the journal an app lists containers, and asks for a claim and gets it.

    It sends the request after ``sent``, which is later if it stops before.
    """

    listed: int
    claimed: int
    sent: int
    made: int


def _decisions(entries: Sequence[Entry]) -> Iterator[Decision]:
    """Yield the decisions that led to replicas."""
    listed: dict[str, int] = {}
    claimed: dict[str, int] = {}
    sent: dict[str, int] = {}
    made: dict[str, Decision] = {}
    for at, entry in enumerate(entries):
        if entry.did == "before list in lock":
            listed[entry.who] = at
        elif entry.did == "before create claim":
            claimed[entry.who] = sent[entry.who] = at
        elif entry.did == "continue":
            sent[entry.who] = at
        elif entry.did == "after create claim" and entry.is_done:
            who = entry.who
            made[who] = Decision(listed[who], claimed[who], sent[who], at)
        elif entry.did == "before rename claim":
            # It is not in the lock any more, and removes the claim; it may adopt another one.
            made.pop(entry.who, None)
        elif entry.did == "before create replica" and entry.who in made:
            yield made.pop(entry.who)


def uncommitted(entries: Iterable[Entry]) -> list[str]:
    """Return where a replica was started by a launch that has not removed a claim itself.

    A launch removes its claim after it has created all replicas. If another one was faster, then
    the GPUs may be used.
    """
    committed = set[str]()
    found = []
    for entry in entries:
        if entry.did == "before create replica":
            committed.discard(entry.who)
        elif entry.did == "after rename claim" and entry.is_done:
            committed.add(entry.who)
        elif entry.did == "before start replica" and entry.who not in committed:
            found.append(f"{entry.who} starts a replica at {entry.t} and has not removed its claim")
    return found
