"""When the replicas of an app changed their states."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_torchx.core.state.timeline import Timeline
from airflow_torchx.core.state.usage import MAX_STORED_BYTES
from airflow_torchx.specs import AppState, DescribeAppResponse, ReplicaStatus, RoleStatus

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
T0 = NOON.timestamp()


def at(seconds: float) -> datetime:
    """Return a time some seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def replica(state: AppState, index: int = 0, **fields: Any) -> ReplicaStatus:  # noqa: ANN401
    """Return a replica that was created at noon."""
    return ReplicaStatus(index, state, "trainer", "h", **{"created_at": NOON, **fields})


def app(*replicas: ReplicaStatus) -> DescribeAppResponse:
    """Return an app of one role."""
    return DescribeAppResponse("a", roles_statuses=[RoleStatus("trainer", replicas)])


FAILED = replica(AppState.FAILED, started_at=at(3), finished_at=at(50))


def test_transitions_are_kept_as_they_are_seen() -> None:
    """A change is added when it is seen, and the daemon's own times correct that time."""
    timeline = Timeline()
    waiting = replica(AppState.SUBMITTED)
    assert timeline.see(app(waiting), T0 + 1)
    assert timeline.see(app(replica(AppState.RUNNING)), T0 + 9)
    assert not timeline.see(app(replica(AppState.RUNNING, started_at=at(5))), T0 + 10)
    assert timeline.see(app(replica(AppState.SUCCEEDED)), T0 + 60)
    ended = replica(AppState.SUCCEEDED, started_at=at(5), finished_at=at(58))
    assert not timeline.see(app(ended), T0 + 61)

    assert [(T0, "SUBMITTED"), (T0 + 5, "RUNNING"), (T0 + 58, "SUCCEEDED")] == timeline.of(ended)


def test_a_start_that_an_inspect_shows_later() -> None:
    """A list has no times, so the start of a short run is added once it is known."""
    timeline = Timeline()
    timeline.see(app(replica(AppState.SUCCEEDED)), T0 + 9)
    ended = replica(AppState.SUCCEEDED, started_at=at(5), finished_at=at(6))
    assert not timeline.see(app(ended), T0 + 10)

    assert [(T0, "SUBMITTED"), (T0 + 5, "RUNNING"), (T0 + 6, "SUCCEEDED")] == timeline.of(ended)


def test_a_restart_is_a_new_part_of_the_line() -> None:
    """A replica of a new round follows the failed one."""
    timeline = Timeline()
    timeline.see(app(FAILED), T0 + 51)
    again = replica(AppState.RUNNING, created_at=at(53), started_at=at(54), round=1)
    timeline.see(app(again), T0 + 55)

    names = [name for _, name in timeline.of(again)]
    assert ["SUBMITTED", "RUNNING", "FAILED", "SUBMITTED", "RUNNING"] == names
    assert T0 + 53 == timeline.of(again)[3][0]


def test_a_replica_that_restarts_for_days() -> None:
    """The first two and the last ten transitions are kept."""
    timeline = Timeline()
    for i in range(100):
        state = AppState.PENDING if i % 2 else AppState.RUNNING
        timeline.see(app(replica(state)), T0 + i)

    known = timeline.of(replica(AppState.RUNNING))
    assert 12 == len(known)
    assert (T0, T0 + 99) == (known[0][0], known[-1][0])


def test_a_timeline_is_stored_and_read_again() -> None:
    """What a deferral stores goes on; what is unusable is left out."""
    timeline = Timeline()
    timeline.see(app(FAILED), T0 + 51)
    assert int(T0) + 60 == timeline.next_seq(T0 + 60)
    assert int(T0) + 61 == timeline.next_seq(T0 + 10)

    stored = json.loads(json.dumps(timeline.to_json()))

    assert timeline == Timeline.parse(stored)
    unusable: list[object] = [None, [], {"seq": "x", "t": []}, {"t": {}}]
    for broken in unusable:
        assert Timeline() == Timeline.parse(broken)
    rows: list[object] = [["x", "RUNNING"], 5, [5], [6, "LATER"], [7, []], [8, "RUNNING", 9]]
    assert [(8, "RUNNING")] == Timeline.parse({"t": {"trainer/0": rows}}).of(FAILED)


def test_a_run_that_was_not_seen() -> None:
    """The daemon knows when a run began that was over before the app was described.

    Its app may be about to restart it, or may have restarted it meanwhile.
    """
    timeline = Timeline()
    timeline.see(app(replica(AppState.PENDING, started_at=at(3), finished_at=at(4))), T0 + 5)
    assert [(T0, "SUBMITTED"), (T0 + 3, "RUNNING"), (T0 + 5, "PENDING")] == timeline.of(FAILED)

    timeline = Timeline()
    timeline.see(app(FAILED), T0 + 51)
    again: dict[str, Any] = {
        "created_at": at(53),
        "started_at": at(54),
        "finished_at": at(55),
        "round": 1,
    }
    for state in (AppState.SUCCEEDED, AppState.FAILED):
        known = Timeline.parse(timeline.to_json())
        known.see(app(replica(state, **again)), T0 + 56)
        after = [(T0 + 53, "SUBMITTED"), (T0 + 54, "RUNNING"), (T0 + 55, state.name)]
        assert after == known.of(FAILED)[3:]
        known.see(app(replica(state, **again)), T0 + 57)
        assert after == known.of(FAILED)[3:]

    timeline = Timeline()
    timeline.see(app(replica(AppState.PENDING, started_at=at(3), finished_at=at(4))), T0 + 5)
    timeline.see(app(replica(AppState.SUCCEEDED, **again)), T0 + 56)
    assert [(T0 + 54, "RUNNING"), (T0 + 55, "SUCCEEDED")] == timeline.of(FAILED)[3:]


def test_a_later_round_that_a_list_shows_first() -> None:
    """A round that was over before it was described has its start once an inspect shows that.

    A list has the time of the create in whole seconds, which may be before the end of the round
    before.
    """
    for created in (at(50), at(53)):
        timeline = Timeline()
        timeline.see(app(replica(AppState.FAILED, started_at=at(3), finished_at=at(50.5))), T0 + 51)
        listed = replica(AppState.SUCCEEDED, created_at=created, round=1)
        timeline.see(app(listed), T0 + 58)
        times: dict[str, Any] = {"started_at": at(54), "finished_at": at(55)}
        inspected = replica(AppState.SUCCEEDED, created_at=at(53), round=1, **times)
        timeline.see(app(inspected), T0 + 59)
        timeline.see(app(inspected), T0 + 60)

        after = [(T0 + 53, "SUBMITTED"), (T0 + 54, "RUNNING"), (T0 + 55, "SUCCEEDED")]
        assert after == timeline.of(FAILED)[3:]


def test_a_stop_after_the_end_is_not_a_run() -> None:
    """A replica that is renamed after its end has no second run."""
    timeline = Timeline()
    timeline.see(app(FAILED), T0 + 51)
    timeline.see(app(replica(AppState.CANCELLED, started_at=at(3), finished_at=at(50))), T0 + 60)

    names = [name for _, name in timeline.of(FAILED)]
    assert ["SUBMITTED", "RUNNING", "FAILED", "CANCELLED"] == names


def test_any_replica_that_changes() -> None:
    """A change of the first replica counts, although the last one has not changed."""
    timeline = Timeline()
    timeline.see(app(replica(AppState.RUNNING), replica(AppState.RUNNING, 1)), T0 + 1)

    assert timeline.see(app(replica(AppState.FAILED), replica(AppState.RUNNING, 1)), T0 + 2)


def test_a_restart_that_has_not_started() -> None:
    """A new container that waits for its start was created when the daemon says so."""
    timeline = Timeline()
    timeline.see(app(FAILED), T0 + 51)
    timeline.see(app(replica(AppState.SUBMITTED, created_at=at(53), round=1)), T0 + 59)

    assert [(T0 + 50, "FAILED"), (T0 + 53, "SUBMITTED")] == timeline.of(FAILED)[2:]


def test_a_run_without_a_duration() -> None:
    """A replica that ended in the second in which it started is not taken for a new one."""
    timeline = Timeline()
    short = replica(AppState.FAILED, started_at=at(3), finished_at=at(3))
    for seconds in (4, 5):
        timeline.see(app(short), T0 + seconds)

    assert [(T0, "SUBMITTED"), (T0 + 3, "RUNNING"), (T0 + 3, "FAILED")] == timeline.of(short)


def test_times_do_not_decrease() -> None:
    """A time of the daemon that is before the transition before is not used."""
    timeline = Timeline()
    timeline.see(app(replica(AppState.RUNNING)), T0 + 9)
    early = replica(AppState.RUNNING, started_at=at(-50))
    assert not timeline.see(app(early), T0 + 10)
    assert [(T0, "SUBMITTED"), (T0 + 9, "RUNNING")] == timeline.of(early)

    timeline.see(app(replica(AppState.FAILED, started_at=at(9), finished_at=at(8))), T0 + 11)
    assert (T0 + 9, "FAILED") == timeline.of(early)[-1]


def test_a_large_app_stores_its_newest_transitions() -> None:
    """Transitions in the middle are left out until a trigger can store the others."""
    timeline = Timeline()
    for i in range(40):
        state = AppState.PENDING if i % 2 else AppState.RUNNING
        timeline.see(app(*(replica(state, index) for index in range(128))), T0 + i + 0.25)

    stored = timeline.to_json()

    assert MAX_STORED_BYTES >= len(json.dumps(stored))
    known = {json.dumps(one) for one in stored["t"].values()}
    assert (128, 1) == (len(stored["t"]), len(known))
    expected = [[T0, "SUBMITTED"], [T0 + 0.25, "RUNNING"], [T0 + 39.25, "PENDING"]]
    assert expected == stored["t"]["trainer/0"]

    timeline.see(app(*(replica(AppState.RUNNING, index) for index in range(999))), T0 + 50)
    assert {"seq": 0, "t": {}} == timeline.to_json()
