"""Snapshots of apps for a page."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any

import jsonschema
import pytest

from airflow_torchx.core.engine.usage import ContainerUsage, GpuUsage
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
                "auxiliary": False,
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
    lines = ["x" * 500, *["password hunter2"] * 30, "y" * 295 + "hunter2"]

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
        "lines": [*["password ***"] * 19, "y" * 295 + "***"],
        "peers_stopped": 1,
    } == found["failure"]
    assert (T0, T0 + 60) == (found["created"], found["finished"])
    assert ["***", None] == [one["error"] for one in found["roles"][0]["replicas"]]


def test_a_failure_right_after_its_start() -> None:
    """Both times have the same precision, so that the failure is never before its start."""
    failed = replace(FAILED, started_at=at(3.008), finished_at=at(3.009))

    found = made(app(failed, state=AppState.FAILED))

    (_, started, ended) = found["roles"][0]["replicas"][0]["t"]
    assert [T0 + 3.01] * 3 == [started[0], ended[0], found["failure"]["at"]]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"oom_killed": True}, "oom"),
        ({"stalled": True}, "stalled"),
        ({"container_id": ""}, "lost"),
        ({"started_at": None, "exit_code": 127}, "start"),
        ({"started_at": None, "error": ""}, "signal"),
        ({"oom_killed": True, "exit_code": 1, "signal": None}, "exit"),
        ({}, "signal"),
        ({"signal": None, "error": ""}, "exit"),
    ],
)
def test_kinds_of_failures(fields: dict[str, Any], kind: str) -> None:
    """A failure has one of six kinds."""
    found = made(app(replace(FAILED, **fields), state=AppState.FAILED))

    assert kind == found["failure"]["kind"]
    assert (kind == "oom") is found["roles"][0]["replicas"][0]["oom"]


def test_long_texts() -> None:
    """Texts of a program and of the daemon are cut, with secrets masked before."""
    text = "z" * 295 + "hunter2"
    failed = replace(
        FAILED,
        worker=WorkerFailure(message=text + "z"),
        structured_error_msg=text + "z",
        error="e" * 70_000,
    )

    found = made(app(failed, state=AppState.FAILED))

    cut = "z" * 295 + "***" + "z"
    assert (cut, cut) == (found["failure"]["structured"], found["failure"]["worker"]["message"])
    assert ["e" * 1000] == [one["error"] for one in found["roles"][0]["replicas"]]


def test_texts_that_json_makes_longer() -> None:
    """Emoji cost characters of a text, and no replica."""
    found = made(app(FAILED, STOPPED, state=AppState.FAILED), lines=["\U0001f600" * 300] * 20)

    assert 2 == len(found["roles"][0]["replicas"])
    lengths = {len(line) for line in found["failure"]["lines"]}
    assert (20, 1) == (len(found["failure"]["lines"]), len(lengths))
    assert 100 < min(lengths) <= 150


def test_restarts() -> None:
    """Restarts by the daemon and new rounds are added up; an unknown number counts as none."""
    seen = [
        replica(AppState.RUNNING, 0, num_restarts=-1, round=2),
        replica(AppState.RUNNING, 1, num_restarts=3, round=2),
        replica(AppState.RUNNING, 2, num_restarts=None),
    ]

    shown = made(app(*seen))["roles"][0]["replicas"]

    assert [2, 5, 0] == [one["restarts"] for one in shown]


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


@pytest.mark.parametrize(
    ("count", "points"), [(20, POINTS), (50, 30), (80, 15), (100, 8), (128, 0)]
)
def test_a_large_app_loses_points(count: int, points: int) -> None:
    """The lines of many replicas lose points until all fits, then they go; the peaks stay."""
    usage = used(count, POINTS)
    found = made(
        app(*(replica(AppState.RUNNING, i, started_at=at(3)) for i in range(count))), usage=usage
    )

    replicas = found["roles"][0]["replicas"]
    assert (count, False) == (len(replicas), found["truncated"])
    assert all("peak" in one for one in replicas)
    assert points == len(replicas[0].get("usage", {}).get("mem", []))
    assert POINTS == len(usage.line(replica(AppState.RUNNING)))


def test_what_a_gpu_and_memory_were_used_at_most() -> None:
    """A peak is the highest sample; the line of a GPU has its percentages."""
    usage = UsageHistory()
    for seconds, percent in ((0, 80.0), (15, 20.0)):
        reading = ContainerUsage(
            read_at=at(seconds),
            cpu_ns=0,
            memory_bytes=round(percent) << 20,
            memory_limit_bytes=None,
            received_bytes=0,
            sent_bytes=0,
        )
        gpu = GpuUsage(percent=percent, memory_bytes=5, memory_limit_bytes=9)
        usage.add("trainer/0", Sample(container_id="c", usage=reading, gpus=(gpu,)))

    (shown,) = made(app(replica(AppState.RUNNING)), usage=usage)["roles"][0]["replicas"]

    assert {"gpu_mem": 9} == shown["limit"]
    peak = {"mem": 80 << 20, "cpu": 0, "cpu_s": 0, "gpu": 80, "gpu_mem": 5}
    assert peak == shown["peak"]
    assert [80, 20] == shown["usage"]["gpu"]


def test_an_image_that_is_unknown() -> None:
    """A role of which the description has no spec has an empty image."""
    assert "" == made(replace(app(FAILED), roles=[]))["roles"][0]["image"]


def test_a_very_large_app_has_counts() -> None:
    """Of 1,000 replicas, those that do not run are shown; the culprit is always there."""
    peers = [replica(AppState.RUNNING, i, started_at=at(3)) for i in range(700)]
    stopped = [replace(STOPPED, id=i) for i in range(700, 999)]
    culprit = replace(FAILED, id=999)

    found = made(app(*peers, *stopped, culprit, state=AppState.FAILED))

    (role,) = found["roles"]
    assert {"RUNNING": 700, "CANCELLED": 299, "FAILED": 1} == role["counts"]
    assert (1000, True, 1000) == (found["n_replicas"], found["truncated"], role["n"])
    shown = [one["id"] for one in role["replicas"]]
    assert {999, *range(700, 827)} == {*shown}


def test_an_auxiliary_role() -> None:
    """A page can show that the app does not depend on a role."""
    seen = app(replica(AppState.RUNNING))
    board = RoleStatus("board", [replace(replica(AppState.FAILED), role="board")])
    chosen = {"essential_roles": '["trainer"]'}
    of = replace(seen, roles_statuses=[*seen.roles_statuses, board], metadata=chosen)

    assert [False, True] == [role["auxiliary"] for role in made(of)["roles"]]
