"""Tests of the decision whether an app makes progress."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_torchx.core.state.stall import (
    STALLED_AFTER,
    Activity,
    Seen,
    advance,
    interval,
    is_stalled,
    stalled_after,
    watched_replicas,
)
from airflow_torchx.specs import AppState, DescribeAppResponse, ReplicaStatus, RoleStatus

QUIET = Activity(at_s=100, cpu_ns=0, last_line=b"step 1")


def after(activity: Activity | None, before: Activity | None = QUIET) -> float:
    """Return when a replica that was seen at 10 s is seen to make progress, looked at 20 s."""
    seen = {"a": Seen(activity=before, since_s=10)}
    return advance(seen, {"a": activity}, 20)["a"].since_s


@pytest.mark.parametrize(
    ("change", "since_s"),
    [
        ({}, 10),
        ({"cpu_ns": 499_000_000}, 10),
        ({"cpu_ns": 500_000_000}, 20),
        ({"last_line": b"step 2"}, 20),
        ({"gpu_percent": 0.0}, 10),
        ({"gpu_percent": 1.0}, 20),
    ],
)
def test_what_counts_as_progress(change: dict[str, object], since_s: float) -> None:
    """A line, five percent of a CPU, and one of a GPU are progress."""
    assert since_s == after(replace(QUIET, at_s=110, **change))  # type: ignore[arg-type]


def test_a_start_of_the_container_counts_as_progress() -> None:
    """Docker counts the CPU time of a container from zero when it starts it again."""
    before = replace(QUIET, cpu_ns=5_000_000_000)

    assert 20 == after(replace(QUIET, at_s=110), before)


def test_what_cannot_be_read_counts_as_progress() -> None:
    """A replica without a reading, or without an earlier one, counts as active."""
    assert 20 == after(None)
    assert 20 == after(replace(QUIET, at_s=110), None)
    assert 20 == after(QUIET)  # no time has passed on the daemon's clock
    assert 20 == advance({}, {"a": QUIET}, 20)["a"].since_s


def test_one_active_replica_keeps_the_app() -> None:
    """An app is stalled if its most recent progress is too long ago."""
    quiet, active = Seen(activity=QUIET, since_s=10), Seen(activity=QUIET, since_s=60)

    assert is_stalled([quiet, quiet], 70, 60)
    assert not is_stalled([quiet, quiet], 69, 60)
    assert not is_stalled([quiet, active], 70, 60)
    assert not is_stalled([], 70, 60)


@pytest.mark.parametrize(("after_s", "pause_s"), [(1, 0.5), (60, 6), (3600, 30)])
def test_the_interval(after_s: float, pause_s: float) -> None:
    """An app is looked at ten times in its time, at least every 30 s."""
    assert pause_s == interval(after_s)


def app(*states: AppState, label: str = "60") -> DescribeAppResponse:
    """Return an app with replicas in these states."""
    replicas = [ReplicaStatus(i, state, "trainer", f"h{i}") for i, state in enumerate(states)]
    return DescribeAppResponse(
        "a-1", metadata={STALLED_AFTER: label}, roles_statuses=[RoleStatus("trainer", replicas)]
    )


def test_only_running_apps_are_watched() -> None:
    """A paused replica, or one that Docker restarts, suspends the watch on the whole app."""
    running, done = AppState.RUNNING, AppState.SUCCEEDED

    assert [0, 2] == [one.id for one in watched_replicas(app(running, done, running))]
    assert [] == watched_replicas(app(running, AppState.PENDING))
    assert [] == watched_replicas(app(done, done))


@pytest.mark.parametrize(
    ("label", "after_s"), [("60", 60.0), ("0", None), ("-1", None), ("soon", None), ("nan", None)]
)
def test_any_label_can_be_read(label: str, after_s: float | None) -> None:
    """A label that makes no sense stops no app."""
    assert after_s == stalled_after(app(AppState.RUNNING, label=label))
    assert stalled_after(DescribeAppResponse("a-1")) is None
