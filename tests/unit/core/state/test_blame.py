"""Tests of which replica is blamed for the failure of its app."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from airflow_torchx.core.state.blame import blamed_replica, lost_peer
from airflow_torchx.core.state.report import cause, failure_card, replica_name, replica_table
from airflow_torchx.specs import (
    AppState,
    DescribeAppResponse,
    ReplicaStatus,
    RoleStatus,
    WorkerFailure,
)
from tests.unit.core.state.test_worker_failure import found

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def replica(
    index: int,
    state: AppState = AppState.FAILED,
    *,
    end_s: float | None = 0.0,
    worker: WorkerFailure | None = None,
    exit_code: int = 1,
) -> ReplicaStatus:
    """Return a replica that ended some seconds after noon."""
    return ReplicaStatus(
        index,
        state,
        "trainer",
        f"h{index}",
        exit_code=exit_code,
        finished_at=None if end_s is None else NOON + timedelta(seconds=end_s),
        worker=worker,
    )


def failed(at_s: float | None = 0.0, message: str = "", **fields: int | str) -> WorkerFailure:
    """Return the failure of a worker some seconds after noon."""
    at = None if at_s is None else NOON + timedelta(seconds=at_s)
    given: dict[str, object] = {"rank": 1, "exit_code": 1, **fields}
    return WorkerFailure(message=message, failed_at=at, **given)  # type: ignore[arg-type]


def app(*replicas: ReplicaStatus, state: AppState = AppState.FAILED) -> DescribeAppResponse:
    """Return an app of these replicas."""
    return DescribeAppResponse("x1", state, roles_statuses=[RoleStatus("trainer", replicas)])


def test_a_worker_that_ran_out_of_memory() -> None:
    """The cause names the worker that the kernel killed for the memory of its container."""
    killed = failed(exit_code=137, signal="SIGKILL")

    assert "rank 1: killed, out of memory (exit code 137); raise resource.memMB" == cause(
        replace(replica(0, worker=killed), oom_killed=True)
    )


def test_workers_that_failed_at_the_same_time() -> None:
    """The first replica is blamed, whichever is listed or ended first."""
    both = [replica(0, end_s=2, worker=failed()), replica(1, end_s=1, worker=failed())]

    assert "trainer/0" == replica_name(blamed_replica(app(*both)) or both[1])


PEER = failed(1, "RuntimeError: Connection closed by peer [172.18.0.5]:28856")
STOPPED = failed(0, "", exit_code=143, signal="SIGTERM")


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        # Without reports of workers, the container that ended first.
        ([replica(0, end_s=2), replica(1, end_s=1)], 1),
        # The worker that failed first, although its agent ended last.
        ([replica(0, end_s=1, worker=failed(0.9)), replica(1, end_s=9, worker=failed(0.2))], 1),
        # A worker that lost its peer noticed it before the peer's agent ended.
        ([replica(0, end_s=1, worker=PEER), replica(1, end_s=9, worker=failed(1.5))], 1),
        # The agent of the first worker to fail was stopped, because a peer had fallen.
        (
            [
                replica(0, end_s=1, worker=PEER),
                replica(1, AppState.CANCELLED, end_s=9, worker=failed(0.5, exit_code=85)),
            ],
            1,
        ),
        # Its time has whole seconds, so that of the other one may be earlier.
        (
            [
                replica(0, AppState.CANCELLED, end_s=9, worker=failed(1)),
                replica(1, end_s=5, worker=failed(1.9)),
            ],
            1,
        ),
        (
            [
                replica(0, AppState.CANCELLED, end_s=9, worker=failed(1)),
                replica(1, end_s=5, worker=failed(2.0)),
            ],
            0,
        ),
        # Times in fractions of a second are exact.
        (
            [
                replica(0, AppState.CANCELLED, end_s=9, worker=failed(1.1)),
                replica(1, end_s=5, worker=failed(1.2)),
            ],
            0,
        ),
        # An error that a lost peer left says nothing against it.
        (
            [
                replica(0, AppState.CANCELLED, end_s=9, worker=failed(1)),
                replica(1, end_s=5, worker=PEER),
            ],
            0,
        ),
        # A replica that was stopped, and reports that, did not fail.
        ([replica(0, end_s=5), replica(1, AppState.CANCELLED, end_s=1, worker=STOPPED)], 0),
        # A container without torchrun fell, and the workers of others lost their peer.
        ([replica(0, end_s=3, worker=PEER), replica(1, end_s=4)], 1),
        # So did one that is gone.
        ([replica(0, end_s=3, worker=PEER), replica(1, end_s=None)], 1),
        # All workers lost a peer: the first of them.
        ([replica(0, end_s=9, worker=PEER), replica(1, end_s=9, worker=STOPPED)], 1),
    ],
)
def test_the_blamed_replica(replicas: list[ReplicaStatus], expected: int) -> None:
    """The first worker to fail that did not lose a peer is blamed, whatever the order."""
    for order in permutations(replicas):
        blamed = blamed_replica(app(*order))

        assert blamed is not None
        assert expected == blamed.id


def test_a_card_that_blames_a_replica_that_was_stopped() -> None:
    """The card says which replica ended first, and why the blamed one is CANCELLED."""
    stopped = replica(1, AppState.CANCELLED, end_s=9, worker=failed(0.5, exit_code=2))
    card = failure_card(app(replica(0, end_s=1, worker=failed(0.8)), stopped), [])

    assert card.splitlines()[:3] == [
        "app 'x1' FAILED: trainer/1 failed first: rank 1: exit code 2",
        "trainer/0 ended first, but a worker in trainer/1 had failed before that.",
        "trainer/1 is CANCELLED: it was listed as running when the app was stopped.",
    ]
    assert " is CANCELLED" not in failure_card(app(replica(0), replica(1, end_s=1)), [])


def test_an_app_that_was_cancelled_blames_no_replica() -> None:
    """Reports of workers do not make a failure of a cancel."""
    cancelled = app(replica(0, AppState.CANCELLED, worker=failed(0.5)), state=AppState.CANCELLED)

    assert blamed_replica(cancelled) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lost-peer", True),
        ("recorded-lost-peer", True),
        ("reset-by-peer", True),
        ("exit-85", False),
        ("killed", False),
        ("recorded", False),
        ("segfault", False),
    ],
)
def test_workers_of_real_runs(name: str, *, expected: bool) -> None:
    """Errors of gloo about a lost peer are recognized."""
    assert expected == lost_peer(found(name))


@pytest.mark.parametrize(
    ("one", "other"), [("lost-peer", "exit-85"), ("recorded-lost-peer", "recorded")]
)
def test_the_two_nodes_of_a_real_run(one: str, other: str) -> None:
    """Of two nodes whose workers ended within a second, the one that caused it is blamed."""
    blamed = blamed_replica(
        app(replica(0, end_s=0, worker=found(one)), replica(1, end_s=0, worker=found(other)))
    )

    assert blamed is not None
    assert "trainer/1" == replica_name(blamed)


@pytest.mark.parametrize(
    ("worker", "expected"),
    [
        (failed(exit_code=85), "rank 1: exit code 85"),
        (failed(exit_code=139, signal="SIGSEGV"), "rank 1: exit code 139 (SIGSEGV)"),
        (
            failed(exit_code=137, signal="SIGKILL"),
            "rank 1: exit code 137 (SIGKILL, possibly out of memory)",
        ),
        (failed(0, "ValueError: a\nb"), "rank 1: exit code 1: ValueError: a"),
        (WorkerFailure(message="RendezvousError: x"), "exit code 1: RendezvousError: x"),
        (failed(0, "x" * 9_000), f"rank 1: exit code 1: {'x' * 300}"),
    ],
)
def test_the_cause(worker: WorkerFailure, expected: str) -> None:
    """The cause has the rank, exit code, signal and error of the worker."""
    assert expected == cause(replica(0, worker=worker))


def test_a_card_has_the_traceback_of_the_worker() -> None:
    """The card has the traceback, unless the last lines have it; the table names the worker."""
    shown = app(replica(0, worker=found("recorded")))
    card = failure_card(shown, ["step 1"])

    assert card.startswith(
        "app 'x1' FAILED: trainer/0 failed first: rank 1: exit code 1: ValueError: loss is NaN\n"
    )
    assert "\ntraceback of rank 1 in trainer/0:\n  Traceback (most recent call last):\n" in card
    assert card.endswith("\n\nlast 1 line of trainer/0:\n  step 1")
    assert "failed first, rank 1: exit code 1" in replica_table(shown)
    lines = [f"[0]:{line}" for line in found("recorded").traceback.split("\n")]
    assert "traceback of" not in failure_card(shown, lines)
