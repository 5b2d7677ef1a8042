"""What the page in Airflow's UI gets of a running app."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerRow
from airflow_torchx.core.engine.usage import ContainerUsage
from airflow_torchx.core.state.describe import describe
from airflow_torchx.core.state.live import TaskApp, attempt_of, live_snapshot, usage_counters
from airflow_torchx.specs import AppState, ReplicaStatus

APP = TaskApp(
    dag_id="train",
    run_id="r/1",
    task_id="gang",
    map_index=-1,
    app_id="app-1",
    handle="local_docker://gpu_host/app-1",
)
NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
ROW = ContainerRow(
    id="c" * 64,
    name="app-1-trainer-0",
    image="busybox",
    state="running",
    status="Up 3 seconds",
    labels={
        **{name: value or "" for name, value in APP.labels.items()},
        labels.ROLE_NAME: "trainer",
        labels.REPLICA_ID: "0",
        labels.TRY_NUMBER: "2",
        labels.MAX_TRIES: "3",
    },
    created_at=NOW,
)


def test_containers_are_found_by_task_and_app() -> None:
    """No container of another task has all these labels, whatever app a reader names."""
    assert {
        "airflow-torchx/dag-id": "train",
        "airflow-torchx/run-id": "r/1",
        "airflow-torchx/task-id": "gang",
        "airflow-torchx/map-index": "-1",
        "torchx.pytorch.org/app-id": "app-1",
    } == APP.labels


def test_a_snapshot_of_one_look() -> None:
    """It has the form of the XCom, and the try that launched the app."""
    app = describe("app-1", [ROW], {})
    assert app is not None

    found = live_snapshot(APP, app, [ROW], NOW.timestamp() + 5)

    assert ("app-1", "RUNNING", "server") == (found["app_id"], found["state"], found["writer"])
    assert {"try": 2, "epoch": 3} == found["attempt"]
    (replica,) = found["roles"][0]["replicas"]
    start_s = NOW.timestamp()
    assert [[start_s, "SUBMITTED"], [start_s + 5, "RUNNING"]] == replica["t"]


def test_the_try_of_labels_that_any_client_can_write() -> None:
    """Unusable numbers count as none."""
    odd = replace(ROW, labels={labels.TRY_NUMBER: "x", labels.MAX_TRIES: "9" * 100})

    assert (0, 0) == attempt_of([odd])
    assert (0, 0) == attempt_of([])


def test_counters_of_a_replica() -> None:
    """They are what the daemon counts, with the time of the reading."""
    replica = ReplicaStatus(3, AppState.RUNNING, "trainer", "host", container_id="d" * 64)
    usage = ContainerUsage(
        read_at=NOW,
        cpu_ns=7,
        memory_bytes=1,
        memory_limit_bytes=None,
        received_bytes=2,
        sent_bytes=3,
    )

    assert {
        "role": "trainer",
        "id": 3,
        "container": "d" * 12,
        "t": NOW.timestamp(),
        "cpu_ns": 7,
        "mem": 1,
        "limit": None,
        "rx": 2,
        "tx": 3,
    } == usage_counters(replica, usage)
