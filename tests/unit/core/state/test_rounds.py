"""Which containers of an app count after restarts, and what its labels say about these."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerRow
from airflow_torchx.core.plan.identity import (
    CANCELLED_SUFFIX,
    FAILED_SUFFIX,
    container_name,
    round_name,
)
from airflow_torchx.core.state.describe import by_app, describe, every_round, is_copy, replicas_of
from airflow_torchx.core.state.restarts import is_restartable, restart_of
from airflow_torchx.core.state.rounds import (
    current_round,
    final_exit_codes,
    may_go_on,
    members_of,
    restarts_caused,
    retries_of,
    role_sizes,
    roles_of_round,
    round_of,
)
from airflow_torchx.specs import AppState, ReplicaStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

APP = "train-x1y2"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def row(
    replica: int, number: int = 0, state: str = "running", *, mark: str = "", **extra: str
) -> ContainerRow:
    """Return a container of an app of two trainers that may be restarted three times."""
    name = round_name(container_name(APP, "trainer", replica), number)
    of_round = {
        labels.ROUND: str(number),
        labels.ROUND_ROLES: '["trainer"]',
        labels.RESTARTS: f'{{"trainer": {number}}}',
    }
    return ContainerRow(
        id=f"{replica}-{number}{mark}",
        name=f"{name}{mark}",
        image="img",
        state=state,
        status={"exited": "Exited (1) 2 seconds ago", "done": "Exited (0) 1 second ago"}.get(
            state, ""
        ),
        labels={
            labels.APP_ID: APP,
            labels.ROLE_NAME: "trainer",
            labels.REPLICA_ID: str(replica),
            labels.LAUNCH_ID: "l",
            labels.ROLES: '{"trainer": 2}',
            labels.RETRIES: '{"trainer": ["APPLICATION", 3]}',
            **(of_round if number else {}),
            **extra,
        },
        created_at=NOON + timedelta(minutes=number),
    )


ENDED = (row(0, 0, "exited"), row(1, 0, "exited"))


def shown(*rows: ContainerRow) -> tuple[str, list[str], int | None]:
    """Return the state of an app, its containers, and the round that is due."""
    app = describe(APP, rows, {})
    assert app is not None
    restart = restart_of(app)
    ids = [replica.container_id for replica in replicas_of(app)]
    return app.state.name, ids, restart.number if restart else None


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (ENDED, ("PENDING", ["0-0", "1-0"], 1)),
        ((row(0), ENDED[1]), ("PENDING", ["0-0", "1-0"], 1)),
        # A client has begun to create round 1, and to start it.
        ((*ENDED, row(0, 1, "created")), ("PENDING", ["0-1", "1-0"], 1)),
        ((*ENDED, row(0, 1, "created"), row(1, 1, "created")), ("PENDING", ["0-1", "1-1"], 1)),
        ((*ENDED, row(0, 1), row(1, 1, "created")), ("PENDING", ["0-1", "1-1"], 1)),
        ((*ENDED, row(0, 1), row(1, 1)), ("RUNNING", ["0-1", "1-1"], None)),
        # It was killed while it started one.
        (
            (*ENDED, row(0, 1), row(1, 1, "created", mark=".starting-0f")),
            ("PENDING", ["0-1", "1-1.starting-0f"], 1),
        ),
        # Another client has created a container again whose name was free.
        (
            (*ENDED, row(0, 1), row(1, 1, "created"), row(1, 1, mark=".starting-0f")),
            ("RUNNING", ["0-1", "1-1.starting-0f"], None),
        ),
        # The next failure.
        ((*ENDED, row(0, 1), row(1, 1, "exited")), ("PENDING", ["0-1", "1-1"], 2)),
        # Earlier rounds were removed.
        ((row(0, 3, "exited"), row(1, 3, "exited")), ("FAILED", ["0-3", "1-3"], None)),
        # A replica of a round that runs was removed.
        ((*ENDED, row(0, 1)), ("FAILED", ["0-1", ""], None)),
        # What a round is made of was removed or cancelled, or cannot be cloned.
        ((row(0, 1, "created"), ENDED[1]), ("FAILED", ["", "1-0"], None)),
        (
            (row(0, 0, "exited", mark=".cancelled"), row(1, 0, "exited", mark=".cancelled")),
            ("CANCELLED", ["0-0.cancelled", "1-0.cancelled"], None),
        ),
        (
            (ENDED[0], row(1, 0, "exited", mark=".failed"), row(0, 1, "created")),
            ("FAILED", ["0-0", "1-0.failed"], None),
        ),
        # The app is asked to save, because its task times out.
        ((row(0), row(1, 0, "exited", mark=".saving")), ("FAILED", ["0-0", "1-0.saving"], None)),
        # All that is left of a deleted app.
        ((row(0, 1, "created"),), ("SUBMITTED", ["0-1"], None)),
    ],
)
def test_the_containers_that_count(
    rows: tuple[ContainerRow, ...], expected: tuple[str, list[str], int | None]
) -> None:
    """They are those of the newest round that has started, or can be finished, in any order."""
    assert expected == shown(*rows)
    assert expected == shown(*reversed(rows))


class CountedLabels(dict[str, str]):
    """Labels that count how often one is read."""

    reads = 0

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - like a dict
        """Return a label."""
        CountedLabels.reads += 1
        return super().get(key, default)


@pytest.mark.parametrize("read", [lambda rows: describe(APP, rows, {}), every_round])
def test_many_rounds(read: Callable[[Sequence[ContainerRow]], object]) -> None:
    """The work for an app grows with the number of its containers, not with its square."""

    def reads(rounds: int) -> int:
        before = CountedLabels.reads
        rows = [row(replica, number, "exited") for number in range(rounds) for replica in (0, 1)]
        read([replace(one, labels=CountedLabels(one.labels)) for one in rows])
        return CountedLabels.reads - before

    assert reads(400) <= 4 * reads(100) + 100


def test_a_container_of_a_round_is_no_copy() -> None:
    """Its name has the round of its label, with or without the marks of clients."""
    assert not is_copy(row(0, 2))
    assert not is_copy(row(0, 2, mark=".starting-0f1e"))
    assert not is_copy(row(0, 2, mark=".failed"))
    assert is_copy(row(0, 2, **{labels.ROUND: "3"}))


@pytest.mark.parametrize("text", ["", "x", "[]", "7", '{"trainer": []}', '{"trainer": "1"}'])
def test_damaged_labels(text: str) -> None:
    """Any user can write a label, so one of another form counts as missing."""
    names = (labels.RETRIES, labels.RESTARTS, labels.ROUND_ROLES, labels.NO_RESTART_EXIT_CODES)
    whole = row(0, 1, "exited")
    damaged = replace(whole, labels={**whole.labels, **dict.fromkeys(names, text)})

    assert {} == retries_of([damaged])
    assert {} == restarts_caused([damaged])
    assert ("trainer",) == roles_of_round([damaged])
    assert frozenset() in (final_exit_codes([damaged]), final_exit_codes([damaged]) - {7})
    assert None is shown(damaged)[2]


def test_a_damaged_round() -> None:
    """A container whose round is not a number counts as one of the launch."""
    damaged = row(0, 0, **{labels.ROUND: "two"})

    assert 0 == round_of(damaged)
    assert 0 == current_round([damaged], role_sizes([damaged])).number


@pytest.mark.parametrize(
    "text",
    ["{}", "x", '{"trainer": -7}', '{"trainer": true}', "[]", pytest.param("9" * 5000, id="long")],
)
def test_a_round_whose_cause_is_unknown(text: str) -> None:
    """It counts against each role, so that a lost label does not give a budget back."""
    counted = {labels.RESTARTS: text}

    def ended(number: int) -> tuple[ContainerRow, ...]:
        return row(0, number, "exited", **counted), row(1, number, "exited", **counted)

    assert ("PENDING", ["0-2", "1-2"], 3) == shown(*ended(2))
    assert ("FAILED", ["0-3", "1-3"], None) == shown(*ended(3))


def test_the_last_round() -> None:
    """A round whose number does not fit into a label or a name is not made."""
    many = {labels.RETRIES: '{"trainer": ["APPLICATION", 100000]}'}

    def ended(number: int) -> tuple[ContainerRow, ...]:
        return row(0, number, "exited", **many), row(1, number, "exited", **many)

    assert 9999 == shown(*ended(9998))[2]
    assert ("FAILED", ["0-9999", "1-9999"], None) == shown(*ended(9999))


@pytest.mark.parametrize("state", ["running", "created", "exited"])
def test_a_round_beyond_the_last_one(state: str) -> None:
    """A container with such a label, which a user has made, does not belong to the app."""
    assert {APP: [*ENDED]} == by_app([*ENDED, row(0, 10_000, state)])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (ENDED, 0),
        ((row(0), row(1)), 0),
        ((*ENDED, row(0, 1), row(1, 1)), 1),
        ((row(0, 3, "exited"), row(1, 3, "exited")), 3),
    ],
)
def test_the_number_of_restarts_of_an_app(rows: tuple[ContainerRow, ...], expected: int) -> None:
    """It is that of the newest round, also if earlier ones were removed; -1 without rounds."""
    found = describe(APP, rows, {})
    other = [
        replace(one, labels={k: v for k, v in one.labels.items() if k != labels.RETRIES})
        for one in ENDED
    ]
    without = describe(APP, other, {})

    assert found is not None
    assert without is not None
    assert (expected, -1) == (found.num_restarts, without.num_restarts)


def test_exit_codes() -> None:
    """The label has the codes, separated by commas."""
    found = final_exit_codes(
        [row(0, 0, "running", **{labels.NO_RESTART_EXIT_CODES: "3,85,x,1000"})]
    )

    assert {3, 85} == found


def test_a_count_of_restarts_that_is_not_a_number() -> None:
    """It is ignored, and the counts of other roles are kept."""
    assert {"ps": 2} == restarts_caused([row(0, 1, **{labels.RESTARTS: '{"a": true, "ps": 2}'})])


def test_more_restarts_than_rounds() -> None:
    """A count of another role that is too high gives no role a larger budget."""
    counted = {labels.RESTARTS: '{"other": 9}'}
    found = describe(APP, [row(i, 1, "exited", **counted) for i in range(2)], {})

    assert found is not None
    restart = restart_of(found)
    assert restart is not None
    assert 1 == restart.used


@pytest.mark.parametrize(("code", "expected"), [(137, False), (1, True), (3, False)])
def test_whether_a_failure_may_restart_an_app(code: int, expected: bool) -> None:
    """Docker's flag of an earlier kill does not end the restarts; a final exit code does."""
    lost = ReplicaStatus(
        0, AppState.FAILED, "w", "h", container_id="c", oom_killed=True, exit_code=code
    )

    assert expected is is_restartable(lost, frozenset({3}))
    assert not is_restartable(replace(lost, container_id=""), frozenset())


@pytest.mark.parametrize(
    ("role", "mark", "expected"),
    [
        ("data", "", True),
        ("data", FAILED_SUFFIX, True),
        ("data", CANCELLED_SUFFIX, False),
        ("trainer", FAILED_SUFFIX, False),
    ],
)
def test_a_final_failure_of_a_role(role: str, mark: str, expected: bool) -> None:
    """A final failure of an auxiliary role leaves restarts possible, and nothing else does."""
    choice = {labels.ESSENTIAL_ROLES: '["trainer"]', labels.ROLES: '{"trainer": 1, "data": 1}'}
    one = row(0, 0, "exited", mark=mark, **{labels.ROLE_NAME: role, **choice})

    assert expected is may_go_on({(role, 0): one}, [one])


@pytest.mark.parametrize("mark", [FAILED_SUFFIX, ".starting-0a"])
def test_two_containers_of_one_replica(mark: str) -> None:
    """The one that a client has renamed counts before one that was created again."""
    marked, again = row(0, 1, "created", mark=mark), row(0, 1, "created")
    later = replace(again, created_at=marked.created_at + timedelta(seconds=1))

    assert [marked] == members_of([marked, later], 1)
    assert [marked] == members_of([later, marked], 1)
