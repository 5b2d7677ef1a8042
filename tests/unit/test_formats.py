"""Every name that outlives a process, with its literal value.

Other processes read them: those of a later release, of an earlier one, of TorchX, or of a user. So
a name changes only with a version. `tests/upgrade` holds what each release stored.
"""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

from airflow_torchx.concurrency import host_lock
from airflow_torchx.core.connection import settings
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import DISCARDED_PREFIX
from airflow_torchx.core.engine.usage import ContainerUsage, GpuUsage
from airflow_torchx.core.gpu.demand import GpuDemand, asked_name
from airflow_torchx.core.logs.cursor import Cursor
from airflow_torchx.core.plan.checkpoint_versions import (
    MARKER,
    POINTER,
    POINTER_COPY,
    Pointer,
    StoredFile,
    Version,
)
from airflow_torchx.core.plan.checkpoints import CHECKPOINT_DIR, cache_volume, checkpoints
from airflow_torchx.core.plan.identity import (
    TaskAttempt,
    cancelled_name,
    container_name,
    failed_name,
    random_app_id,
    restarting_name,
    round_name,
    saving_name,
    stalled_name,
    starting_name,
)
from airflow_torchx.core.plan.job_plan import LaunchContext, plan
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.state.app_ref import AppRef
from airflow_torchx.core.state.progress import merged
from airflow_torchx.core.state.progress_report import last_report
from airflow_torchx.core.state.report import cursor_key
from airflow_torchx.core.state.snapshot import SCHEMA, SNAPSHOT_KEY, Owner
from airflow_torchx.core.state.timeline import Timeline
from airflow_torchx.core.state.trigger_event import AppEvent, Reason
from airflow_torchx.core.state.usage import Sample, UsageHistory
from airflow_torchx.core.task import outlet_extra, record
from airflow_torchx.core.task.config_hash import VERSION, config_hash
from airflow_torchx.core.task.metrics import METRICS, PHASES, TAGS
from airflow_torchx.core.workspace.recipe import MANIFEST, Recipe, local_tag, manifest
from airflow_torchx.core.workspace.tree import Entry
from airflow_torchx.docker_engine import NETWORK_LABEL
from airflow_torchx.function.app import Replicas, app_of_function
from airflow_torchx.function.call import Call
from airflow_torchx.function.source import FunctionSource
from airflow_torchx.provider import get_provider_info
from airflow_torchx.runtime.watch.app_endings import STATE_KEY
from airflow_torchx.specs import AppState, DescribeAppResponse, ReplicaStatus, RoleStatus
from airflow_torchx.specs.handle import SCHEDULER, SWARM_SCHEDULER
from airflow_torchx.task.context import PROGRESS_KEY
from airflow_torchx.workspace import manifests
from tests.unit.apps import app

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

ATTEMPT = TaskAttempt(
    dag_id="nightly", run_id="run", task_id="train", map_index=-1, max_tries=2, try_number=1
)
APP_ID = "nightly-train-7spjcfofud-m2-t1"

RECIPE = Recipe(
    base_id="sha256:1",
    base="busybox",
    directory="/w",
    entries=(Entry(path="a.py", kind="file", mode=0o644, digest="d" * 64, size_bytes=1),),
    workspace_id="w",
)


def test_labels() -> None:
    """All labels of containers, networks and workspace images are these."""
    named = {name: value for name, value in vars(labels).items() if name.isupper()}
    reserved = named.pop("RESERVED_PREFIXES")
    named = {name: one for name, one in named.items() if isinstance(one, str)}

    assert ("torchx.pytorch.org/", "airflow-torchx/") == reserved
    assert "airflow-torchx/network" == NETWORK_LABEL
    assert {
        "TORCHX_PREFIX": "torchx.pytorch.org/",
        "OWN_PREFIX": "airflow-torchx/",
        "OF_IMAGE": "airflow-torchx:of-image",
        "VERSION": "torchx.pytorch.org/version",
        "APP_ID": "torchx.pytorch.org/app-id",
        "ROLE_NAME": "torchx.pytorch.org/role-name",
        "REPLICA_ID": "torchx.pytorch.org/replica-id",
        "APP_NAME": "airflow-torchx/app-name",
        "HANDLE": "airflow-torchx/handle",
        "ROLES": "airflow-torchx/roles",
        "LAUNCH_ID": "airflow-torchx/launch-id",
        "FAILURE_POLICY": "airflow-torchx/failure-policy",
        "FAILURE_RULES": "airflow-torchx/failure-rules",
        "PROGRESS_PATTERN": "airflow-torchx/progress-pattern",
        "STOP_GRACE": "airflow-torchx/stop-grace-s",
        "CHECKPOINT": "airflow-torchx/checkpoint",
        "CHECKPOINT_FOLDER": "airflow-torchx/checkpoint-folder",
        "CHECKPOINT_INTERVAL": "airflow-torchx/checkpoint-interval-s",
        "CHECKPOINT_SIGNAL": "airflow-torchx/checkpoint-signal",
        "CHECKPOINT_S": "airflow-torchx/checkpoint-s",
        "RETRIES": "airflow-torchx/retries",
        "NO_RESTART_EXIT_CODES": "airflow-torchx/no-restart-exit-codes",
        "ROUND": "airflow-torchx/round",
        "ROUND_ROLES": "airflow-torchx/round-roles",
        "RESTARTS": "airflow-torchx/restarts",
        "ESSENTIAL_ROLES": "airflow-torchx/essential-roles",
        "AUXILIARY_GRACE": "airflow-torchx/auxiliary-grace-s",
        "STALLED_AFTER": "airflow-torchx/stalled-after-s",
        "CONFIG_HASH": "airflow-torchx/config-hash",
        "DAG_ID": "airflow-torchx/dag-id",
        "RUN_ID": "airflow-torchx/run-id",
        "TASK_ID": "airflow-torchx/task-id",
        "MAP_INDEX": "airflow-torchx/map-index",
        "TRY_NUMBER": "airflow-torchx/try-number",
        "MAX_TRIES": "airflow-torchx/max-tries",
        "ON_FINISH": "airflow-torchx/on-finish",
        "GPUS": "airflow-torchx/gpus",
        "GPU_MARKER": "airflow-torchx/gpu-marker",
        "GPU_APP": "airflow-torchx/gpu-app",
        "GPU_COUNT": "airflow-torchx/gpu-count",
        "GPU_AMONG": "airflow-torchx/gpu-among",
        "GPU_FOREIGN": "airflow-torchx/gpu-foreign",
        "GPU_TIMEOUT": "airflow-torchx/gpu-timeout-s",
        "SWARM_NAME": "airflow-torchx/container-name",
        "SWARM_MARK": "airflow-torchx/renamed-to",
        "SWARM_LOCK": "airflow-torchx/placing",
        "SWARM_WAITS": "airflow-torchx/waits-for-room",
        "SWARM_TAKEN_BACK": "airflow-torchx/taken-back",
        "SWARM_PIN": "airflow-torchx/pinned-to",
        "CONSTRAINTS": "airflow-torchx/constraints",
        "MAX_PER_NODE": "airflow-torchx/max-replicas-per-node",
        "PLACEMENT": "airflow-torchx/placement",
        "PENDING_TIMEOUT": "airflow-torchx/pending-timeout-s",
        "WORKSPACE_ID": "airflow-torchx/workspace-id",
        "WORKSPACE_KEY": "airflow-torchx/workspace-key",
        "WORKSPACE_BASE_ID": "airflow-torchx/workspace-base-id",
        "WORKSPACE_DEPTH": "airflow-torchx/workspace-depth",
    } == named


def test_a_container() -> None:
    """The container of a task's replica has this name, network and wire contract."""
    launch = LaunchContext(
        app_id=ATTEMPT.app_id,
        handle=AppRef(ATTEMPT.app_id, None).handle,
        launch_id="0f7c2b9de41a5d38",
        environ={},
        labels={**ATTEMPT.labels, labels.CONFIG_HASH: "v1-0123456789abcdef"},
    )

    first = plan(app(2), Opts(), launch).containers[0]

    assert "nightly-train-7spjcfofud-m2-t1-trainer-0" == first.name
    assert "torchx" == first.network
    assert {
        "TORCHX_RANK0_HOST": first.name,
        "TORCHX_IMAGE": "busybox",
        "TORCHX_JOB_ID": f"local_docker://torchx/{APP_ID}",
        "TORCHX_REPLICA_IDX": "0",
        "TORCHX_NUM_REPLICAS": "2",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "7",
        "TORCHELASTIC_ERROR_FILE": "/tmp/torchelastic_error.json",  # noqa: S108 - in a container
        "TORCHX_PROGRESS_FILE": "/tmp/torchx_progress.jsonl",  # noqa: S108 - in a container
    } == first.env
    version = first.labels["torchx.pytorch.org/version"]
    assert {
        "torchx.pytorch.org/version": version,
        "torchx.pytorch.org/app-id": APP_ID,
        "torchx.pytorch.org/role-name": "trainer",
        "torchx.pytorch.org/replica-id": "0",
        "airflow-torchx/app-name": "app",
        "airflow-torchx/handle": f"local_docker://torchx/{APP_ID}",
        "airflow-torchx/roles": '{"trainer": 2}',
        "airflow-torchx/launch-id": "0f7c2b9de41a5d38",
        "airflow-torchx/failure-policy": "fail_fast",
        "airflow-torchx/stop-grace-s": "10",
        "airflow-torchx/gpus": "",
        "airflow-torchx/config-hash": "v1-0123456789abcdef",
        "airflow-torchx/dag-id": "nightly",
        "airflow-torchx/run-id": "run",
        "airflow-torchx/task-id": "train",
        "airflow-torchx/map-index": "-1",
        "airflow-torchx/try-number": "1",
        "airflow-torchx/max-tries": "2",
    } == first.labels


def test_names() -> None:
    """App ids, container names and handles have these schemes."""
    assert APP_ID == ATTEMPT.app_id
    assert "trainer-t4rcs9x6sv1m" == random_app_id("trainer", 0x0123456789ABCDEF)
    assert "trainer-x1-worker-0" == container_name("trainer-x1", "worker", 0)
    assert "trainer-x1-worker-0.cancelled" == cancelled_name("trainer-x1-worker-0")
    assert "trainer-x1-worker-0.saving" == saving_name("trainer-x1-worker-0", cancelled=False)
    assert "a.saving.cancelled" == saving_name("a", cancelled=True)
    assert "trainer-x1-worker-0.stalled" == stalled_name("trainer-x1-worker-0")
    assert "trainer-x1-worker-0-r2" == round_name("trainer-x1-worker-0", 2)
    assert "trainer-x1-worker-0.restarting" == restarting_name("trainer-x1-worker-0")
    assert "trainer-x1-worker-0-r2.failed" == failed_name("trainer-x1-worker-0-r2")
    assert "trainer-x1-worker-0-r2.starting-0f7c" == starting_name("trainer-x1-worker-0-r2", "0f7c")
    assert "airflow-torchx-discarded-" == DISCARDED_PREFIX
    assert "name.asked-0f7c" == asked_name("name", "0f7c")
    assert "local_docker://torchx/trainer-x1" == AppRef("trainer-x1", None).handle
    assert "local_docker://gpu_host/trainer-x1" == AppRef("trainer-x1", "gpu_host").handle


def test_the_folder_of_checkpoints() -> None:
    """A later release finds the checkpoints of a task in the same folder."""
    fresh, eager = (
        checkpoints(
            Opts(checkpoint="models", checkpoint_policy=policy),
            app_id=APP_ID,
            app_name="app",
            own=ATTEMPT.labels,
        )
        for policy in ("fresh", "eager")
    )
    assert fresh is not None
    assert eager is not None

    of_task = "/torchx/checkpoints/tasks/nightly-2a3b62b53ddb/train-1359c638e349"
    assert f"{of_task}/runs/run-acba25512100-m2" == fresh.folder
    assert f"{of_task}/all-runs" == eager.folder
    assert "TORCHX_CHECKPOINT_DIR" == CHECKPOINT_DIR


def test_the_cursor_of_a_log() -> None:
    """A deferral stores the cursor of a replica's log under its name, and its round if it has."""
    replica = ReplicaStatus(1, AppState.RUNNING, "trainer", "h")

    assert "trainer/1" == cursor_key(replica)
    assert "trainer/1/r2" == cursor_key(replace(replica, round=2))


def test_checkpoints_in_an_object_storage() -> None:
    """A later release finds the checkpoints of a task at their URL, and in the volume."""
    version = Version(number=7, id="1f0c29ab")
    files = {"a/b": StoredFile(size=1, mtime=5), "c": StoredFile(size=0, mtime=None)}
    pointer = Pointer(version=version, files=files, time="2026-01-01T00:00:00+00:00")

    assert ("latest", "latest.new", ".airflow-torchx-version") == (POINTER, POINTER_COPY, MARKER)
    assert "v00000007-1f0c29ab" == version.folder
    marker = {"format": 1, "version": 7, "id": "1f0c29ab"}
    assert marker == version.to_json()
    assert version == Version.parse(json.dumps(marker).encode())
    assert {
        **marker,
        "time": "2026-01-01T00:00:00+00:00",
        "files": {"a/b": {"size": 1, "mtime": 5}, "c": {"size": 0, "mtime": None}},
    } == json.loads(pointer.to_json())
    assert pointer == Pointer.parse(pointer.to_json())
    assert "airflow-torchx-checkpoint-460a41f9b0581487d49f" == cache_volume(
        "s3://bucket", "tasks/a/runs/b"
    )


def test_a_deferral_with_uploads() -> None:
    """The time of the next upload is stored if checkpoints have a URL."""
    stored = record.Deferral(upload_at_s=5.0).to_json()

    assert {"app": None, "cursors": {}, "upload_at_s": 5.0} == stored
    assert 5.0 == record.Deferral.parse(stored).upload_at_s
    assert record.Deferral.parse({"upload_at_s": "x"}).upload_at_s is None
    waiting = record.Deferral(wait_since_s=5.0).to_json()
    assert {"app": None, "cursors": {}, "wait_since_s": 5.0} == waiting
    assert 5.0 == record.Deferral.parse(waiting).wait_since_s


def test_the_config_hash() -> None:
    """The hash has a version and 16 digits; `test_config_hash` pins three of them."""
    assert "v1" == VERSION
    assert re.fullmatch("v1-[0-9a-f]{16}", config_hash(app(), Opts(), ()))


def test_the_content_of_a_workspace() -> None:
    """This digest of a workspace is a part of the config hash, whatever image it becomes."""
    assert "7526afd2ddb2b11ec22be8cdb3ee797b" == RECIPE.digest


def test_the_task_record() -> None:
    """A task stores one record in its state store, under this key and with these fields."""
    launched = record.LaunchedApp(
        app_id="a", handle="h", launch_id="l", config_hash="v1-a", stop_grace_s=10.0
    )

    assert "airflow-torchx/app" == record.RECORD_KEY
    assert {
        "app_id": "a",
        "handle": "h",
        "max_tries": 2,
        "config_hash": "v1-a",
        "phase": "launching",
        "result": None,
    } == record.TaskRecord.of(launched, ATTEMPT).to_json()
    phases = (record.LAUNCHING, record.SUCCEEDED, record.RESULT_REJECTED)
    assert ("launching", "succeeded", "result_rejected") == phases


def test_a_deferral() -> None:
    """A task that defers stores these arguments of ``execute_complete``."""
    launched = record.LaunchedApp(
        app_id="a", handle="h", launch_id="l", config_hash="v1-a", stop_grace_s=10.0
    )
    from airflow_torchx.operators import TorchXDockerOperator

    assert "execute_complete" == TorchXDockerOperator.execute_complete.__name__
    assert {
        "app": {
            "app_id": "a",
            "handle": "h",
            "launch_id": "l",
            "config_hash": "v1-a",
            "stop_grace_s": 10.0,
        },
        "cursors": {"trainer/0": {"time_ns": 5, "seen": 1, "newest_ns": 7}},
    } == record.Deferral(launched, {"trainer/0": Cursor(5, 1, 7)}).to_json()
    matched = record.Deferral(launched, {"trainer/0": Cursor(5, 1, 7, "gpu_lost mine")}).to_json()
    assert "gpu_lost mine" == matched["cursors"]["trainer/0"]["rules"]
    saving = record.Deferral(replace(launched, checkpoint_s=60.0)).to_json()
    assert 60.0 == saving["app"]["checkpoint_s"]


DEMAND = {
    "key": "nightly-train-7spjcfofud-m2",
    "count": 2,
    "listed": ["GPU-a", "GPU-b"],
    "reported": ["GPU-a", "GPU-b", "GPU-c"],
    "is_indexed": True,
    "image": "busybox",
    "respects_foreign": True,
    "labels": {"airflow-torchx/gpu-app": APP_ID},
    "since_s": 4.0,
    "until_s": 5.0,
    "wait_timeout_s": 60.0,
    "volumes": ["/data"],
}


def test_a_wait_for_gpus() -> None:
    """A task that waits for GPUs stores its demand, with which any release leaves the queue."""
    from airflow_torchx.triggers import TorchXDockerTrigger

    demand = GpuDemand.parse(DEMAND)
    assert demand is not None

    deferral = record.Deferral(gpu_demand=demand)
    assert {"app": None, "cursors": {}, "gpu_demand": DEMAND} == deferral.to_json()
    assert deferral == record.Deferral.parse(deferral.to_json())
    _, kwargs = TorchXDockerTrigger(app_id="a", gpu_demand=DEMAND).serialize()
    assert DEMAND == kwargs["gpu_demand"]
    assert "airflow-torchx-gpu-lock" == demand.name("lock")
    assert "airflow-torchx-gpu-ticket-nightly-train-7spjcfofud-m2" == demand.name("ticket")
    assert "airflow-torchx-gpu-claim-nightly-train-7spjcfofud-m2" == demand.name("claim")


def test_a_trigger() -> None:
    """Airflow stores a trigger under this class path and with these arguments."""
    from airflow_torchx.triggers import TorchXDockerTrigger

    classpath, kwargs = TorchXDockerTrigger(app_id="a").serialize()

    assert "airflow_torchx.triggers.TorchXDockerTrigger" == classpath
    assert f"{TorchXDockerTrigger.__module__}.{TorchXDockerTrigger.__qualname__}" == classpath
    assert {
        "app_id": "a",
        "app_name": None,
        "torchx_conn_id": None,
        "target_states": ["SUCCEEDED", "FAILED", "CANCELLED"],
        "role": None,
        "min_replicas": None,
        "failed_states": [],
        "owned": False,
        "delete_on_finish": False,
        "deadline": None,
        "flush_at": None,
        "not_before": None,
        "wait_for_launch": False,
        "format_version": 1,
    } == kwargs


def test_a_trigger_that_asks_to_save() -> None:
    """The time of the checkpoint signal is an argument of the trigger, if it is set."""
    from airflow_torchx.triggers import TorchXDockerTrigger

    _, kwargs = TorchXDockerTrigger(app_id="a", save_at=5.0).serialize()

    assert 5.0 == kwargs["save_at"]
    assert 5.0 == TorchXDockerTrigger(**kwargs).save_at


def test_the_logins_of_a_trigger() -> None:
    """A trigger stores the ids of connections, if it has any, and no password."""
    from airflow_torchx.triggers import TorchXDockerTrigger

    _, without = TorchXDockerTrigger(app_id="a").serialize()
    _, kwargs = TorchXDockerTrigger(app_id="a", docker_conn_ids=("ghcr",)).serialize()

    assert {"docker_conn_ids": ["ghcr"]} == {
        key: value for key, value in kwargs.items() if key not in without
    }
    assert ["ghcr"] == TorchXDockerTrigger(**kwargs).docker_conn_ids


def test_what_was_seen_of_an_app() -> None:
    """A trigger stores whose app it is and when replicas changed; its event has the latter."""
    from airflow_torchx.triggers import TorchXDockerTrigger

    owner = Owner(
        handle="h", dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1, epoch=0
    )
    stored = {
        "owner": {
            "handle": "h",
            "dag_id": "d",
            "run_id": "r",
            "task_id": "t",
            "map_index": -1,
            "try_number": 1,
            "epoch": 0,
        },
        "seq": 5,
        "t": {"trainer/0": [[1.5, "RUNNING"]]},
    }

    assert stored["owner"] == asdict(owner)
    assert {"seq": 5, "t": stored["t"]} == Timeline.parse(stored).to_json()
    assert ("torchx_app", 1) == (SNAPSHOT_KEY, SCHEMA)

    _, kwargs = TorchXDockerTrigger(app_id="a", snapshot=stored).serialize()
    assert stored == kwargs["snapshot"]
    assert stored == TorchXDockerTrigger(**kwargs).snapshot


def test_the_names_of_metrics() -> None:
    """Dashboards have these names; a timer is in milliseconds."""
    phases = ["launch", "build", "push", "pull", "gpu_wait", "create", "start", "wait", "collect"]
    assert {
        "torchx.app.launched": "counter",
        "torchx.app.reattached": "counter",
        "torchx.app.finished.<STATE>": "counter",
        "torchx.app.restarts": "counter",
        "torchx.replica.restarts": "counter",
        "torchx.replica.out_of_memory": "counter",
        "torchx.failure_rule.<rule>": "counter",
        **{f"torchx.{phase}.duration": "timer" for phase in phases},
    } == {metric.name: metric.kind for metric in METRICS}
    assert phases == [*PHASES]
    assert ("dag_id", "task_id", "team_name", "conn_id") == TAGS


def test_how_far_a_program_is() -> None:
    """A program writes these fields; a trigger and its event have them beside the usage."""
    report = last_report(b'{"step": 1200, "total": 5000, "metrics": {"loss": 0.31}}')
    assert report is not None
    before = merged(None, replace(report, step=1000), "0123456789abcdef", 100.0)
    progress = merged(before, report, "0123456789abcdef", 120.5)
    shown = {
        "step": 1200,
        "total": 5000,
        "metrics": {"loss": 0.31},
        "at": 120.5,
        "eta_s": 389.5,
        "first": {"step": 1000, "at": 100.0},
    }

    assert shown == progress.to_json()
    stored = {"progress": {**shown, "container": "0123456789ab"}}
    assert stored == UsageHistory(progress=progress).to_json(16_384)
    assert progress == UsageHistory.parse(stored).progress
    assert "progress" == PROGRESS_KEY


def test_what_an_app_has_used() -> None:
    """A trigger stores what its app has used, and its event has it in the same form."""
    from airflow_torchx.triggers import TorchXDockerTrigger

    gpu = GpuUsage(percent=50.0, memory_bytes=1, memory_limit_bytes=2)
    used = ContainerUsage(
        read_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
        cpu_ns=2_000_000_000,
        memory_bytes=3 << 20,
        memory_limit_bytes=None,
        received_bytes=5,
        sent_bytes=6,
    )
    history = UsageHistory()
    history.add(
        "trainer/0",
        Sample(
            container_id="c",
            usage=used,
            cpus_limit=8.0,
            memory_limit_bytes=7,
            started_at=datetime(2026, 1, 31, 11, 59, 59, tzinfo=UTC),
            gpus=(gpu,),
        ),
    )
    stored = {
        "start": 1769860800.0,
        "step": 15.0,
        "replicas": {
            "trainer/0": {
                "container": "c",
                "at": 1769860800.0,
                "cpus": 2.0,
                "cpus_peak": 2.0,
                "cpus_limit": 8.0,
                "cpu_s": 2.0,
                "mem": 3 << 20,
                "mem_peak": 3 << 20,
                "mem_limit": 7,
                "rx": 5,
                "tx": 6,
                "gpu_pct": 50.0,
                "gpu_pct_peak": 50.0,
                "gpu_mem": 1,
                "gpu_mem_peak": 1,
                "gpu_mem_limit": 2,
                "line": {"cpu": [2.0], "mem": [3], "gpu": [50]},
            }
        },
    }

    assert stored == history.to_json(16_384)
    _, kwargs = TorchXDockerTrigger(app_id="a", usage=stored).serialize()
    assert stored == kwargs["usage"]
    assert stored == TorchXDockerTrigger(**kwargs).usage


def test_an_event() -> None:
    """A trigger fires an event with these fields and one of these reasons."""
    assert ["app_id", "reason", "state", "message", "usage", "snapshot"] == list(
        AppEvent.__annotations__
    )
    assert (
        "reached",
        "failed",
        "timeout",
        "flush",
        "gone",
        "unreachable",
        "claimed",
        "busy",
    ) == get_args(Reason)


def test_a_sensor_that_starts_in_the_triggerer() -> None:
    """The scheduler makes the trigger of a sensor from these arguments."""
    from airflow_torchx.sensors import TorchXDockerSensor

    sensor = TorchXDockerSensor(task_id="wait", app_id="a", start_from_trigger=True)
    started: Any = sensor.start_trigger_args

    assert "airflow_torchx.triggers.TorchXDockerTrigger" == started.trigger_cls
    assert "execute_complete" == started.next_method
    assert {
        "app_id": "a",
        "torchx_conn_id": None,
        "target_states": ["SUCCEEDED"],
        "failed_states": ["FAILED", "CANCELLED"],
        "role": None,
        "min_replicas": None,
        "wait_for_launch": False,
        "format_version": 1,
    } == started.trigger_kwargs


def test_events_of_assets() -> None:
    """The event of a task's asset has these fields, which other DAGs read."""
    pushed = {
        "app_handle": "h",
        "image_ids": {"trainer": "sha256:1"},
        "progress": {"step": 9, "metrics": {"loss": 0.5}},
    }

    extra = outlet_extra.outlet_extra(pushed, 1, str)

    assert "torchx" == outlet_extra.EXTRA_KEY
    assert ["app_handle", "image_ids", "step", "metrics", "result"] == list(extra)


def test_xcoms() -> None:
    """The operator and the sensor push these XComs."""
    from airflow_torchx.core.state import failure_key
    from airflow_torchx.task import context, page_link, poke, xcoms

    keys = {value for name, value in vars(context).items() if name.endswith("_KEY")}

    assert {
        "app_handle",
        "app_id",
        "container_ids",
        "image_ids",
        "replicas",
        "progress",
        "airflow-torchx/app",  # not an XCom but the key of the record
    } == keys
    assert "_link_TorchXAppLink" == page_link.LINK_KEY
    assert "torchx_failure:" == failure_key.FAILURE_PREFIX
    assert ["app_handle", "app_id", "state", "replicas"] == list(poke.description("h", "a", "s"))
    replica = ReplicaStatus(0, AppState.SUCCEEDED, "trainer", "app-x-trainer-0")
    app = DescribeAppResponse(roles_statuses=[RoleStatus("trainer", [replica])])
    assert [
        {
            "id": 0,
            "state": "SUCCEEDED",
            "role": "trainer",
            "hostname": "app-x-trainer-0",
            "hostaddr": "app-x-trainer-0",
            "exit_code": None,
            "signal": None,
            "oom_killed": False,
            "error": "",
            "num_restarts": None,
            "started_at": None,
            "finished_at": None,
            "container_id": "",
            "gpus": [],
            "stalled": False,
            "worker": None,
            "round": 0,
            "rule": "",
            "usage": None,
            "created_at": None,
            "node": "",
        }
    ] == xcoms.replicas_for_xcom(app)


def test_the_facet_of_a_run() -> None:
    """OpenLineage stores this facet of a run."""
    from airflow_torchx.task.lineage_facets import TorchXAppRunFacet, lineage_of

    found = lineage_of({"app_handle": "h", "app_id": "a"}).run_facets

    assert {
        "torchx_app": TorchXAppRunFacet(handle="h", app_id="a", images={}, replicas=[])
    } == found


def test_the_state_of_an_asset() -> None:
    """A watcher keeps the apps that it reported under this key of its asset's state store."""
    assert "airflow-torchx/reported-apps/nightly" == STATE_KEY.format("nightly")


def test_a_workspace_image() -> None:
    """A workspace image has this tag, these labels, and this file in it."""
    written = RECIPE.labels(1)

    assert "airflow-torchx/workspace:0123" == local_tag("0123")
    assert {
        "torchx.pytorch.org/version": written["torchx.pytorch.org/version"],
        "airflow-torchx/workspace-id": "w",
        "airflow-torchx/workspace-key": "4ebc570f7723372ef4fe0e854bc1cc2a",
        "airflow-torchx/workspace-base-id": "sha256:1",
        "airflow-torchx/workspace-depth": "1",
    } == written
    assert "var/lib/airflow-torchx/workspace.json" == MANIFEST
    assert {"format": 1, "files": {"a.py": f"f644 {'d' * 64}"}} == json.loads(
        manifest(RECIPE.entries)
    )


def test_files_of_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All releases on a host share these locks and these lists of files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    manifests.save("0123", b"{}")

    with host_lock.held("network", "n"):
        locks = [path.name for path in (tmp_path / "airflow-torchx").iterdir()]

    assert (tmp_path / "cache/airflow-torchx/manifests/0123").is_file()
    assert ["network-1b16b1df538ba12d.lock"] == locks


def test_a_function() -> None:
    """These variables, and files in this folder, tell a container what to call."""
    source = FunctionSource.of(_call_me)
    call = Call.of(_call_me, [1], {}).env(source, file="f.py", result_path="/r.json")

    (role,) = app_of_function(source, call, Replicas(), workspace=None, python="python").roles

    assert role.workspace is not None
    assert [".airflow-torchx/run.py", ".airflow-torchx/function-_call_me.py"] == [
        *role.workspace.projects.values()
    ]
    assert {
        "PYTHONUNBUFFERED",
        "OMP_NUM_THREADS",
        "AIRFLOW_TORCHX_CALL_0",
    } == role.env.keys()
    assert {
        "function",
        "file",
        "line",
        "lazy_annotations",
        "result_path",
        "args",
        "kwargs",
    } == json.loads(role.env["AIRFLOW_TORCHX_CALL_0"]).keys()


def test_a_connection() -> None:
    """A connection has this type and these fields in its extra; configuration has these options."""
    info: Any = get_provider_info()

    assert ["torchx_docker"] == [one["connection-type"] for one in info["connection-types"]]
    assert {"torchx": ["default_conn_id", "ui_docker_access"]} == {
        section: [*content["options"]] for section, content in info["config"].items()
    }
    assert {
        "tls_ca",
        "tls_cert",
        "tls_private_key",
        "tls_verify",
        "api_version",
        "request_timeout_s",
        "max_connections",
        "network",
        "options",
        "registries",
        "gpu_ids",
        "scheduler",
        "managers",
        "constraints",
        "gpu_resource",
        "subnet",
        "mtu",
        "node_url",
    } == set(settings.FIELDS)
    assert ("local_docker", "docker_swarm") == (SCHEDULER, SWARM_SCHEDULER)


def _call_me(number: int) -> int:
    return number
