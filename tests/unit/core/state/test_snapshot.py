"""Snapshots of apps for a page."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any

import jsonschema
import pytest

from airflow_torchx.core.engine.usage import ContainerUsage
from airflow_torchx.core.state.progress import merged
from airflow_torchx.core.state.progress_report import Report
from airflow_torchx.core.state.snapshot import MAX_BYTES, Owner, View, snapshot
from airflow_torchx.core.state.timeline import Timeline
from airflow_torchx.core.state.usage import POINTS, Sample, UsageHistory
from airflow_torchx.specs import (
    AppState,
    DescribeAppResponse,
    ReplicaStatus,
    Role,
    RoleStatus,
    WorkerFailure,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
T0 = NOON.timestamp()
OWNER = Owner(
    handle="local_docker://torchx/a",
    dag_id="d",
    run_id="r",
    task_id="t",
    map_index=-1,
    try_number=2,
    epoch=1,
)
SCHEMA = json.loads(
    resources.files("airflow_torchx.core.state").joinpath("snapshot.v1.json").read_text()
)


def replica(state: AppState, index: int = 0, **fields: Any) -> ReplicaStatus:  # noqa: ANN401
    """Return a replica that was created at noon."""
    given = {"created_at": NOON, "container_id": f"{index:064x}", **fields}
    return ReplicaStatus(index, state, "trainer", f"a-trainer-{index}", **given)


def at(seconds: float) -> datetime:
    """Return a time some seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def app(*replicas: ReplicaStatus, state: AppState = AppState.RUNNING) -> DescribeAppResponse:
    """Return an app of one role."""
    return DescribeAppResponse(
        "a",
        state,
        roles_statuses=[RoleStatus("trainer", replicas)],
        roles=[Role("trainer", "busybox", num_replicas=len(replicas))],
    )


def used(count: int, points: int) -> UsageHistory:
    """Return what some replicas have used in some intervals."""
    found = UsageHistory()
    for index in range(count):
        for point in range(points):
            usage = ContainerUsage(
                read_at=at(15 * point),
                cpu_ns=point * 14_900_000_000,
                memory_bytes=(1000 + point) << 20,
                memory_limit_bytes=None,
                received_bytes=5,
                sent_bytes=6,
            )
            sample = Sample(
                container_id="c", usage=usage, cpus_limit=2.0, memory_limit_bytes=4 << 30
            )
            found.add(f"trainer/{index}", sample)
    return found


def made(seen: DescribeAppResponse, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - of a view
    """Return a snapshot, which its schema describes."""
    timeline = Timeline()
    timeline.see(seen, T0 + 100)
    given: dict[str, Any] = {
        "owner": OWNER,
        "writer": "worker",
        "now_s": T0 + 100,
        "seq": 7,
        "timeline": timeline,
        "usage": UsageHistory(),
        "mask": lambda text: text.replace("hunter2", "***"),
    }
    data = json.loads(json.dumps(snapshot(View(app=seen, **{**given, **fields}))))
    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    assert len(json.dumps(data)) <= MAX_BYTES
    return dict(data)


def test_progress() -> None:
    """A snapshot says how far the program is; names of metrics are masked like all texts."""
    reports = [Report(step=step, total=500, metrics={"hunter2": 0.5}) for step in (100, 200)]
    progress = merged(merged(None, reports[0], "c", T0), reports[1], "c", T0 + 10)
    usage = UsageHistory(progress=progress)

    shown = made(app(replica(AppState.RUNNING)), usage=usage)["progress"]
    by_trigger = made(app(replica(AppState.RUNNING)), usage=usage, mask=None)["progress"]

    assert {
        "step": 200,
        "total": 500,
        "metrics": {"***": 0.5},
        "at": T0 + 10,
        "eta_s": 30.0,
        "first": {"step": 100, "at": T0},
    } == shown
    assert {"hunter2": 0.5} == by_trigger["metrics"]


def test_a_running_app() -> None:
    """A snapshot says whose app it is, and what each replica does and uses."""
    running = replica(AppState.RUNNING, started_at=at(3), gpus=["GPU-0"])

    assert {
        "schema": 1,
        "app_id": "a",
        "handle": "local_docker://torchx/a",
        "attempt": {"try": 2, "epoch": 1},
        "state": "RUNNING",
        "seq": 7,
        "observed_at": T0 + 100,
        "writer": "worker",
        "created": T0,
        "finished": None,
        "n_replicas": 1,
        "truncated": False,
        "origin": {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1},
        "roles": [
            {
                "name": "trainer",
                "n": 1,
                "image": "busybox",
                "counts": {"RUNNING": 1},
                "replicas": [
                    {
                        "id": 0,
                        "name": "a-trainer-0",
                        "container": "000000000000",
                        "state": "RUNNING",
                        "exit": None,
                        "signal": None,
                        "oom": False,
                        "stalled": False,
                        "round": 0,
                        "restarts": 0,
                        "gpus": ["GPU-0"],
                        "error": None,
                        "t": [[T0, "SUBMITTED"], [T0 + 3, "RUNNING"]],
                        "limit": {"mem": 4 << 30, "cpu": 2.0},
                        "peak": {"mem": 1001 << 20, "cpu": 0.99, "cpu_s": 14.9},
                        "net": {"rx": 5, "tx": 6},
                        "usage": {
                            "cpu": [None, 0.99],
                            "mem": [1000 << 20, 1001 << 20],
                            "interval_s": 15.0,
                            "start": T0,
                        },
                    }
                ],
            }
        ],
        "failure": None,
        "progress": None,
    } == made(app(running), usage=used(1, 2))


FAILED = replica(
    AppState.FAILED,
    started_at=at(3),
    finished_at=at(50),
    exit_code=137,
    signal="SIGKILL",
    error="hunter2",
)
STOPPED = replica(AppState.CANCELLED, 1, started_at=at(3), finished_at=at(60), exit_code=143)


def test_a_failed_app() -> None:
    """A snapshot says which replica failed first, and why; secrets in texts are masked."""
    worker = WorkerFailure(rank=3, exit_code=1, message="no hunter2")
    lines = ["x" * 500, *["password hunter2"] * 30]

    found = made(
        app(replace(FAILED, worker=worker, rule="nccl_timeout"), STOPPED, state=AppState.FAILED),
        lines=lines,
    )

    assert {
        "role": "trainer",
        "id": 0,
        "at": T0 + 50,
        "kind": "signal",
        "exit": 1,
        "signal": "SIGKILL",
        "rule": "nccl_timeout",
        "worker": {"rank": 3, "exit": 1, "signal": None, "message": "no ***"},
        "structured": None,
        "lines": ["password ***"] * 20,
        "peers_stopped": 1,
    } == found["failure"]
    assert (T0, T0 + 60) == (found["created"], found["finished"])
    assert ["***", None] == [one["error"] for one in found["roles"][0]["replicas"]]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"oom_killed": True}, "oom"),
        ({"stalled": True}, "stalled"),
        ({"container_id": ""}, "lost"),
        ({"started_at": None, "exit_code": 127}, "start"),
        ({}, "signal"),
        ({"signal": None, "error": ""}, "exit"),
    ],
)
def test_kinds_of_failures(fields: dict[str, Any], kind: str) -> None:
    """A failure has one of six kinds."""
    found = made(app(replace(FAILED, **fields), state=AppState.FAILED))

    assert kind == found["failure"]["kind"]


def test_a_cancelled_app() -> None:
    """An app that was stopped has no culprit."""
    found = made(app(STOPPED, state=AppState.CANCELLED), lines=["saved"])

    assert {"kind": "cancel", "peers_stopped": 1, "lines": ["saved"]} == found["failure"]


def test_a_trigger_stores_no_text_of_a_program() -> None:
    """The triggerer does not know the secrets, so it leaves all texts out."""
    worker = WorkerFailure(rank=3, message="no hunter2")

    found = made(app(replace(FAILED, worker=worker), state=AppState.FAILED), mask=None)

    assert "hunter2" not in json.dumps(found)
    assert None is found["failure"]["worker"]["message"]


def test_a_large_app_loses_points() -> None:
    """The lines of 128 replicas lose points until all fits; the peaks stay."""
    found = made(
        app(*(replica(AppState.RUNNING, i, started_at=at(3)) for i in range(100))),
        usage=used(100, POINTS),
    )

    replicas = found["roles"][0]["replicas"]
    assert (100, False) == (len(replicas), found["truncated"])
    assert all("peak" in one for one in replicas)
    assert POINTS > len(replicas[0].get("usage", {}).get("mem", []))


def test_a_very_large_app_has_counts() -> None:
    """Of 1,000 replicas, those that do not run are shown; the culprit is always there."""
    peers = [replica(AppState.RUNNING, i, started_at=at(3)) for i in range(700)]
    stopped = [replace(STOPPED, id=i) for i in range(700, 999)]
    culprit = replace(FAILED, id=999)

    found = made(app(*peers, *stopped, culprit, state=AppState.FAILED))

    (role,) = found["roles"]
    assert {"RUNNING": 700, "CANCELLED": 299, "FAILED": 1} == role["counts"]
    assert (1000, True, 1000) == (found["n_replicas"], found["truncated"], role["n"])
    assert 999 in [one["id"] for one in role["replicas"]]
    assert len(role["replicas"]) <= 128


def test_transitions_are_kept_as_they_are_seen() -> None:
    """A look adds what has changed, and the daemon's own times correct those of the look."""
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
    assert [] == Timeline.parse({"t": {"trainer/0": [["x", "RUNNING"], 5]}}).of(FAILED)


@pytest.mark.parametrize(("replicas", "kept"), [(8, 12), (128, 4), (1000, 0)])
def test_what_a_deferral_stores_is_bounded(replicas: int, kept: int) -> None:
    """Of an app with many replicas that restart, the newest transitions are stored that fit."""
    timeline = Timeline()
    for i in range(12):
        state = AppState.PENDING if i % 2 else AppState.RUNNING
        timeline.see(app(*(replica(state, index) for index in range(replicas))), T0 + i)

    stored = timeline.to_json()

    assert len(json.dumps(stored)) <= 16_384
    known = Timeline.parse(stored).of(replica(AppState.RUNNING))
    assert kept == len(known)
    assert not known or (T0, T0 + 11) == (known[0][0], known[-1][0])


def test_a_run_that_no_look_has_seen() -> None:
    """The daemon knows when a run began that was over at the first look.

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
