"""What an app asks of the GPUs of a daemon."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.demand import GpuDemand, owner_labels
from airflow_torchx.core.gpu.ids import ALL, GpuIds
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.core.plan.job_plan import JobPlan, LaunchContext, plan
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.specs import AppDef, Resource, Role

LISTED = ("GPU-b", "GPU-a")
REPORTED = GpuIds(("GPU-a", "GPU-b", "GPU-c"), is_indexed=True)
GPU = Resource(cpu=1, gpu=2, memMB=64)
DEMAND = GpuDemand(
    key="app-m0",
    count=2,
    listed=LISTED,
    reported=REPORTED.ids,
    is_indexed=True,
    image="busybox",
    respects_foreign=False,
    labels={labels.GPU_APP: "app-m0-t1"},
    until_s=5.5,
    volumes=("/data",),
)


def attempt(try_number: int, max_tries: int = 3) -> TaskAttempt:
    """Return an attempt of a task."""
    return TaskAttempt(
        dag_id="d",
        run_id="r",
        task_id="t",
        map_index=-1,
        max_tries=max_tries,
        try_number=try_number,
    )


def planned(of: TaskAttempt | None = None, **options: object) -> JobPlan:
    """Return the plan of an app with a server, and a trainer with two GPUs for each replica."""
    roles = [
        Role("ps", "server:1", entrypoint="run"),
        Role("trainer", "trainer:1", entrypoint="run", num_replicas=2, resource=GPU),
    ]
    context = LaunchContext(
        app_id=of.app_id if of else "app-1",
        handle="local_docker://t/app",
        launch_id="one",
        environ={},
        labels=of.labels if of else {},
    )
    return plan(AppDef("app", roles), Opts.parse(options), context)


def test_the_demand_of_an_app() -> None:
    """It has the GPUs of all replicas together, and an image that is pulled before it."""
    found = GpuDemand.of(planned(), LISTED, REPORTED)

    assert found == GpuDemand(
        key="one",
        count=4,
        listed=LISTED,
        reported=REPORTED.ids,
        is_indexed=True,
        image="server:1",
        respects_foreign=True,
        labels={labels.GPU_APP: "app-1", labels.LAUNCH_ID: "one"},
    )
    ignoring = GpuDemand.of(planned(gpu_foreign="ignore"), LISTED, REPORTED)
    assert ignoring == replace(found, respects_foreign=False)


def test_apps_without_gpus_of_their_own() -> None:
    """An app that shares GPUs, or has none, demands none."""
    without = plan(
        AppDef("app", [Role("ps", "server:1", entrypoint="run")]),
        Opts(),
        LaunchContext(app_id="a", handle="h", launch_id="one", environ={}),
    )

    assert GpuDemand.of(planned(auto_set_gpus=False), LISTED, REPORTED) is None
    assert GpuDemand.of(without, LISTED, REPORTED) is None


def test_without_ids_all_gpus_are_one() -> None:
    """Where no ids are known, an app takes all GPUs as one."""
    found = GpuDemand.of(planned(), (ALL,), GpuIds((ALL,)))

    assert found is not None
    assert found.needs_all
    assert (4, 1) == (found.count, found.claims)
    assert (2, False) == (DEMAND.claims, DEMAND.needs_all)


def test_tries_of_a_task_share_a_place() -> None:
    """A retry has the names of the try before; after a clear, the names differ."""
    first, second, cleared = (
        GpuDemand.of(planned(one), LISTED, REPORTED)
        for one in (attempt(1), attempt(12), attempt(13, max_tries=15))
    )

    assert first
    assert second
    assert cleared
    assert first.key == second.key != cleared.key
    assert first.name("claim") == second.name("claim") != first.name("ticket")
    assert first.name("lock") == cleared.name("lock")


def test_the_labels_of_a_place() -> None:
    """They identify the task and the launch, and are not those of a replica."""
    found = owner_labels(planned(attempt(2)))

    assert found == {
        **attempt(2).labels,
        labels.GPU_APP: attempt(2).app_id,
        labels.LAUNCH_ID: "one",
    }


def test_a_container_of_a_place() -> None:
    """It needs no network, would end at once, and says what it stands for."""
    spec = DEMAND.spec("claim", ids=["GPU-a", "GPU-b"], timeout_s=600)

    assert ("airflow-torchx-gpu-claim-app-m0", "busybox", "true", "none") == (
        spec.name,
        spec.image,
        spec.entrypoint,
        spec.network,
    )
    assert {
        labels.GPU_APP: "app-m0-t1",
        labels.GPUS: "GPU-a,GPU-b",
        labels.GPU_MARKER: "claim",
        labels.GPU_COUNT: "2",
        labels.GPU_AMONG: "GPU-b,GPU-a",
        labels.GPU_FOREIGN: "ignore",
        labels.GPU_TIMEOUT: "600",
    } == spec.labels


def test_a_stored_demand() -> None:
    """A demand can be stored as JSON; fields that are missing or unknown do no harm."""
    stored = json.loads(json.dumps(DEMAND.to_json()))

    assert DEMAND == GpuDemand.parse(stored)
    assert DEMAND == GpuDemand.parse({**stored, "later": 1})
    least = {"key": "k", "count": 1, "listed": ["0"], "image": "i"}
    assert GpuDemand(key="k", count=1, listed=("0",), image="i") == GpuDemand.parse(least)


def test_the_gpus_of_the_daemon() -> None:
    """Where nothing else is known, they are those that the app may have."""
    least = GpuDemand(key="k", count=1, listed=LISTED, image="i")

    assert REPORTED == DEMAND.gpus
    assert GpuIds(LISTED) == least.gpus


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {},
        {"key": "k", "count": 1, "listed": ["0"]},
        {"key": "k", "count": "1", "listed": ["0"], "image": "i"},
        {"key": "k", "count": True, "listed": ["0"], "image": "i"},
        {"key": 3, "count": 1, "listed": ["0"], "image": "i"},
        {"key": "k", "count": 1, "listed": ["0"], "image": "i", "until_s": "x"},
        {"key": "k", "count": 1, "listed": ["0"], "image": "i", "wait_timeout_s": False},
        {"key": "k", "count": 1, "listed": ["0"], "image": "i", "is_indexed": "no"},
        {"key": "k", "count": 1, "listed": 3, "image": "i"},
        {"key": "k", "count": 1, "listed": ["0"], "image": "i", "volumes": 3},
        {"key": "k", "count": 1, "listed": ["0"], "image": "i", "labels": [1]},
    ],
)
def test_a_demand_that_cannot_be_used(stored: Any) -> None:  # noqa: ANN401 - any JSON value
    """What another version has stored, or what is damaged, is None."""
    assert GpuDemand.parse(stored) is None


def test_the_volumes_of_an_image_are_covered() -> None:
    """Docker compares clean absolute paths, and an image may declare others."""
    demand = replace(DEMAND, volumes=("/data", "cache", "/srv/../models/"))

    assert {"/data": "", "/cache": "", "/models": ""} == demand.spec("lock").host.tmpfs
