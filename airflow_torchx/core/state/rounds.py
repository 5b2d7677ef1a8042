"""The rounds of an app: which of its containers count after restarts.

A restart of an app or a role makes a new round: clones of the containers of the round before, all
created before one of them is started. Docker's own restart of a container makes none. Containers of
earlier rounds are kept, and count only until those of the next round can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import (
    MAX_REPLICAS,
    is_failed_name,
    is_marked,
    is_starting_name,
)
from airflow_torchx.core.state.essential import chosen_roles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from airflow_torchx.core.engine.containers import ContainerEvent, ContainerRow

    #: Role and index of a replica.
    Key = tuple[str, int]

#: The newest round that can be: a name has four digits for it, as a label has.
MAX_ROUND: Final = 9_999
_ROUND_DIGITS: Final = len(str(MAX_ROUND))
_INDEX_DIGITS: Final = 4  # below identity.MAX_REPLICAS


class Labelled(Protocol):
    """A container, or what becomes one."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def created_at(self) -> datetime:
        """When it was created."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrentRound:
    """The containers of an app that count.

    Args:
        newest: the container of each replica.
        number: the newest round.
        unfinished: the roles of a round that a client has begun to make, and not finished: some
            containers are missing, or were not started. Empty once all rounds are finished.
    """

    newest: Mapping[Key, ContainerRow]
    number: int = 0
    unfinished: tuple[str, ...] = ()


def replica_key(one: Labelled | ContainerEvent) -> Key:
    """Return role and index from the labels; an invalid index counts as 0."""
    found = one.labels
    index = found.get(labels.REPLICA_ID, "")
    is_index = index.isdecimal() and len(index) <= _INDEX_DIGITS
    return found.get(labels.ROLE_NAME, ""), int(index) if is_index else 0


def role_of(one: Labelled | ContainerEvent) -> str:
    """Return the role from the labels; empty without one."""
    return one.labels.get(labels.ROLE_NAME, "")


def round_of(one: ContainerRow | ContainerEvent) -> int:
    """Return the round that created a container, 0 for the launch."""
    text = one.labels.get(labels.ROUND)
    return labels.number(text, max_digits=_ROUND_DIGITS) or 0 if text else 0


def age(row: Labelled) -> tuple[datetime, str]:
    """Return a key that sorts containers from the oldest to the newest."""
    return row.created_at, row.id


def current_round(rows: Sequence[ContainerRow], sizes: Mapping[str, int]) -> CurrentRound:
    """Return the containers of an app that count; ``sizes`` has the number of replicas by role.

    A round of which no container has started counts only while it can be finished: while the
    containers of which it is made exist, and were neither cancelled nor failed for good.
    """
    rows = sorted(rows, key=age)
    while (number := max(map(round_of, rows), default=0)) > 0:
        members = members_of(rows, number)
        older = [row for row in rows if round_of(row) < number]
        roles = roles_of_round(members)
        is_startable_yet = any(map(is_startable, members))
        if any(row.state != "created" for row in members):
            unfinished = roles if is_startable_yet else ()
            return CurrentRound(newest=_newest(rows), number=number, unfinished=unfinished)
        sources = _newest(older)
        needed = {(role, index) for role in roles for index in range(sizes.get(role, 0))}
        if needed <= sources.keys() and may_go_on(sources, rows):
            made = {replica_key(row): row for row in members}
            unfinished = roles if is_startable_yet or not needed <= made.keys() else ()
            return CurrentRound(newest={**sources, **made}, number=number, unfinished=unfinished)
        if not older:
            break
        rows = older
    return CurrentRound(newest=_newest(rows), number=number)


def members_of(rows: Iterable[ContainerRow], number: int) -> list[ContainerRow]:
    """Return the containers of a round, one for each replica, by role and index.

    A client that starts a container renames it. Another one may then create it again, under the
    name that is free, and does not start that. Once one of the two cannot be started, the other one
    is not started either.
    """

    def progress(row: ContainerRow) -> tuple[object, ...]:
        marks = (is_failed_name(row.name), is_starting_name(row.name))
        return (row.state != "created", *marks, age(row))

    by_progress = sorted((row for row in rows if round_of(row) == number), key=progress)
    found = {replica_key(row): row for row in by_progress}
    return [row for _, row in sorted(found.items())]


def by_round(rows: Iterable[ContainerRow]) -> list[tuple[int, list[ContainerRow]]]:
    """Return the containers of each round, from the first round on."""
    found: dict[int, list[ContainerRow]] = {}
    for row in rows:
        found.setdefault(round_of(row), []).append(row)
    return sorted(found.items())


def sources_of(rows: Sequence[ContainerRow], number: int | None = None) -> dict[Key, ContainerRow]:
    """Return the containers that count before a round, of which it is made; None for the next."""
    older = [row for row in rows if number is None or round_of(row) < number]
    return dict(current_round(older, role_sizes(rows)).newest)


def may_restart(rows: Iterable[Labelled]) -> bool:
    """Return whether a failure may make a new round of the app of these containers."""
    return any(labels.RETRIES in row.labels for row in rows)


def labelled_gpus(found: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ids of the GPUs in the labels of a container."""
    return tuple(filter(None, found.get(labels.GPUS, "").split(",")))


def is_startable(row: ContainerRow) -> bool:
    """Return whether a container has not been started yet, and may be."""
    return row.state == "created" and not is_marked(row.name)


def roles_of_round(members: Iterable[ContainerRow]) -> tuple[str, ...]:
    """Return the roles that a round restarts, from the labels of its containers."""
    found: dict[str, None] = {}
    for row in members:
        named = labels.json_of(row.labels, labels.ROUND_ROLES)
        if isinstance(named, list):
            found |= dict.fromkeys(map(str, named))
        found[role_of(row)] = None
    return tuple(found)


def restarts_caused(rows: Iterable[ContainerRow]) -> dict[str, int]:
    """Return how many rounds the failures of each role have caused.

    Every container of a round has the numbers so far, so that a removal of earlier ones loses none.
    """
    found: dict[str, int] = {}
    for row in rows:
        counts = labels.json_of(row.labels, labels.RESTARTS)
        for role, count in counts.items() if isinstance(counts, dict) else ():
            if isinstance(count, int) and not isinstance(count, bool):
                found[role] = max(count, found.get(role, 0))
    return found


def retries_of(rows: Iterable[ContainerRow]) -> dict[str, tuple[str, int]]:
    """Return the retry policy and the maximum of each role that new containers restart."""
    found: dict[str, tuple[str, int]] = {}
    for row in rows:
        given = labels.json_of(row.labels, labels.RETRIES)
        for role, value in given.items() if isinstance(given, dict) else ():
            match value:
                case [str(policy), int(maximum)]:
                    found[role] = (policy, maximum)
                case _:
                    pass
    return found


def final_exit_codes(rows: Iterable[ContainerRow]) -> frozenset[int]:
    """Return the exit codes that do not restart the app."""
    texts = (row.labels.get(labels.NO_RESTART_EXIT_CODES, "") for row in rows)
    codes = (labels.number(code, max_digits=3) for text in texts for code in text.split(","))
    return frozenset(code for code in codes if code is not None)


def role_sizes(rows: Iterable[Labelled]) -> dict[str, int]:
    """Return role to number of replicas: from the label, else by the highest index.

    TorchX, which writes no such label, creates containers in order of their index.
    """
    rows = list(rows)
    newest = max((row for row in rows if labels.ROLES in row.labels), key=age, default=None)
    given = labels.json_of(newest.labels, labels.ROLES) if newest else None
    counts = given if isinstance(given, dict) else {}
    sizes = {role: n for role, n in counts.items() if isinstance(n, int) and 0 < n <= MAX_REPLICAS}
    keys = [replica_key(row) for row in rows if role_of(row) not in sizes]
    return sizes | {role: index + 1 for role, index in sorted(keys)}


def may_go_on(newest: Mapping[Key, ContainerRow], rows: Sequence[ContainerRow]) -> bool:
    """Return whether an app, of which these containers count, may be restarted.

    It may not once it was asked to save or to end, or an essential replica has failed for good. A
    replica of another role that has is left as it is, or restarted with the whole app.
    """
    marked = [(role, row) for (role, _), row in newest.items() if is_marked(row.name)]
    if not marked:
        return True
    text = next((row.labels[labels.ESSENTIAL_ROLES] for row in rows if _has_choice(row)), "[]")
    essential = chosen_roles(text, role_sizes(rows))
    return bool(essential) and all(
        is_failed_name(row.name) and role not in essential for role, row in marked
    )


def _has_choice(row: ContainerRow) -> bool:
    return labels.ESSENTIAL_ROLES in row.labels


def _newest(rows: Sequence[ContainerRow]) -> dict[Key, ContainerRow]:
    """Return the container of each replica in the newest round of its role.

    ``rows`` are sorted by `age`.
    """
    by_role: dict[str, dict[Key, ContainerRow]] = {}
    for number, rows_of_round in by_round(rows):
        # The replicas of TorchX's apps may have several containers, without a round.
        members = members_of(rows_of_round, number) if number else rows_of_round
        of_round = {replica_key(row): row for row in members}
        for role in roles_of_round(of_round.values()):
            by_role[role] = {key: row for key, row in of_round.items() if key[0] == role}
    return {key: row for found in by_role.values() for key, row in found.items()}
