"""Tests the command gpus, on the fake engine."""

from __future__ import annotations

import io
from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.cli import gpus as cli_gpus
from airflow_torchx.cli.gpus import list_gpus
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerSpec, GpuRequest
from airflow_torchx.core.gpu.demand import GpuDemand
from airflow_torchx.errors import InvalidAppError
from airflow_torchx.runtime.gpus.queue import Claim, GpuQueue
from airflow_torchx.testing import FakeEngine, ManualClock, Program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TASK: Final = {
    labels.DAG_ID: "nightly",
    labels.RUN_ID: "manual",
    labels.TASK_ID: "train",
    labels.MAP_INDEX: "3",
}


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that stands still."""
    return ManualClock()


@pytest.fixture
def engine(clock: ManualClock) -> FakeEngine:
    """Return a daemon with four GPUs, whose containers run until they are stopped."""
    return FakeEngine(
        images=["busybox"],
        gpus=4,
        programs=Program(runs_for_s=None),
        clock=clock,
        sleep=clock.sleep,
    )


def run(
    engine: FakeEngine,
    name: str,
    given: Mapping[str, str] | None = None,
    request: GpuRequest | None = None,
) -> None:
    """Start a container."""
    spec = ContainerSpec(
        role="",
        replica=0,
        name=name,
        image="busybox",
        entrypoint="run",
        args=(),
        env={},
        labels=given or {},
        network="none",
        gpus=request,
    )
    engine.start(engine.create(spec))


def replica(engine: FakeEngine, app: str, ids: str, task: Mapping[str, str] | None = None) -> None:
    """Start a replica that holds GPUs."""
    run(engine, f"{app}-0", {labels.APP_ID: app, labels.GPUS: ids, **(task or {})})


def attempt(engine: FakeEngine, app: str, count: int, task: Mapping[str, str]) -> object:
    """Let an app claim GPUs, or queue."""
    demand = GpuDemand(
        key=app,
        count=count,
        listed=engine.engine_info.gpu_ids,
        image="busybox",
        labels={labels.GPU_APP: app, **task},
    )
    return GpuQueue(engine, demand).attempt()


def shown(engine: FakeEngine, gpu_ids: Sequence[str] = ()) -> list[list[str]]:
    """Return the words of each line of the table."""
    return [line.split() for line in list_gpus(engine, gpu_ids).table(io.StringIO()).splitlines()]


def test_the_holders_and_the_queue_are_listed(engine: FakeEngine, clock: ManualClock) -> None:
    """The table shows what holds each GPU, and then the apps that wait."""
    replica(engine, "train-1", "GPU-0", TASK)
    run(engine, "notebook", request=GpuRequest(count=1, device_ids=("GPU-1",)))
    clock.sleep(7200)
    assert isinstance(attempt(engine, "fit-2", 1, {}), Claim)
    attempt(engine, "big-3", 4, {**TASK, labels.MAP_INDEX: "-1"})

    assert [
        ["HOST", "GPU", "STATE", "HELD", "BY", "DAG", "RUN", "TASK", "AGE"],
        ["fake", "GPU-0", "held", "train-1", "nightly", "manual", "train[3]", "2", "h"],
        ["fake", "GPU-1", "held", "container", "notebook", "2", "h"],
        ["fake", "GPU-2", "claimed", "fit-2", "0", "s"],
        ["fake", "GPU-3", "free"],
        [],
        ["WAITING", "APP", "GPUS", "DAG", "RUN", "TASK", "AGE"],
        ["big-3", "4", "nightly", "manual", "train", "0", "s"],
    ] == shown(engine)


def test_what_a_killed_launch_left(engine: FakeEngine, clock: ManualClock) -> None:
    """GPUs that the next app may take are free, although a container for them still exists."""
    assert isinstance(attempt(engine, "fit-2", 1, {}), Claim)
    spec = ContainerSpec(
        role="",
        replica=0,
        name="train-1-0",
        image="busybox",
        entrypoint="run",
        args=(),
        env={},
        labels={labels.APP_ID: "train-1", labels.GPUS: "GPU-1"},
        network="none",
    )
    engine.create(spec)
    states = [[one["state"] for one in list_gpus(engine).to_json()["gpus"]]]
    for seconds in (31, 30):
        clock.sleep(seconds)
        states.append([one["state"] for one in list_gpus(engine).to_json()["gpus"]])

    assert [
        ["claimed", "held", "free", "free"],
        ["free", "held", "free", "free"],
        ["free", "free", "free", "free"],
    ] == states


def test_json(engine: FakeEngine) -> None:
    """Every object has the same keys, and null for what is unknown or does not apply."""
    unheld: dict[str, Any] = dict.fromkeys(
        ("model", "app_id", "container", "dag_id", "run_id", "task_id", "map_index", "since")
    )
    unheld["host"] = "fake"
    run(engine, "notebook", request=GpuRequest(count=-1))
    replica(engine, "train-1", "GPU-0", TASK)
    attempt(engine, "big-3", 2, {})
    attempt(engine, "big-4", 4, {})
    task = {"dag_id": "nightly", "run_id": "manual", "task_id": "train", "map_index": 3}
    now = engine.info().system_time
    assert now is not None

    assert {
        "host": "fake",
        "url": "fake://engine",
        "ids_known": True,
        "gpus": [
            {"id": "GPU-0", "state": "held", "app_id": "train-1", "container": "train-1-0", **task}
            | {"model": None, "since": now.isoformat(), "host": "fake"},
            *(
                unheld
                | {"id": one, "state": "claimed", "app_id": "big-3", "since": now.isoformat()}
                | {"container": "airflow-torchx-gpu-claim-big-3"}
                for one in ("GPU-1", "GPU-2")
            ),
            unheld | {"id": "GPU-3", "state": "free"},
        ],
        "waiting": [dict.fromkeys(task) | {"app_id": "big-4", "gpus": 4, "since": now.isoformat()}],
        "requested_all": ["notebook"],
        "unlisted": [],
    } == list_gpus(engine).to_json()


def test_a_shared_gpu_is_listed_with_each_holder(engine: FakeEngine) -> None:
    """A GPU that two containers use has a line for each of them."""
    replica(engine, "one", "GPU-3")
    replica(engine, "two", "GPU-3")

    assert [["one", "two"]] == [
        sorted(use["app_id"] for use in list_gpus(engine).to_json()["gpus"] if use["id"] == "GPU-3")
    ]


def test_models_are_shown_if_they_are_known(engine: FakeEngine) -> None:
    """The column of models is there if the model of any GPU is known."""
    found = replace(list_gpus(engine), models={"GPU-1": "NVIDIA A100"})

    lines = [line.split() for line in found.table(io.StringIO()).splitlines()]

    assert ["HOST", "GPU", "MODEL", "STATE"] == lines[0]
    assert ["fake", "GPU-1", "NVIDIA", "A100", "free"] == lines[2]


def test_a_connection_selects_gpus(engine: FakeEngine) -> None:
    """The GPUs of a connection are listed, by the daemon's ids; one that is absent is a problem."""
    found = list_gpus(engine, ["2", "GPU-0", "GPU-9"])

    assert ["GPU-2", "GPU-0"] == [one["id"] for one in found.to_json()["gpus"]]
    assert ["GPU-9"] == found.to_json()["unlisted"]
    (problem,) = found.problems
    assert ("gpu_ids", "fake://engine has no GPU GPU-9") == (problem.where, problem.what)
    assert "the daemon has GPU-0, GPU-1, GPU-2, GPU-3" in problem.fix


@pytest.mark.parametrize(
    ("gpu_ids", "expected"),
    [
        (["0", "GPU-9f"], "indices and UUIDs may name the same GPU"),
        (["gpu0"], "only CDI knows gpu0"),
        (["0", "1"], ""),
    ],
)
def test_ids_with_which_each_launch_is_refused(
    engine: FakeEngine, gpu_ids: list[str], expected: str
) -> None:
    """The command has the same problems with the ids of a connection as a launch."""
    engine.engine_info = replace(engine.engine_info, gpu_ids=())

    found = "".join(one.what for one in list_gpus(engine, gpu_ids).problems)

    assert found.startswith(expected)
    assert bool(expected) == bool(found)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_connection_with_a_wrong_gpu(
    engine: FakeEngine,
    as_json: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The listing is printed, and then the connection is an error, as in a task."""
    monkeypatch.setattr(cli_gpus, "_connect", lambda _: (engine, ["GPU-1", "GPU-9"]))

    with pytest.raises(InvalidAppError, match=r"connection 'gpu_host': 1 problem\n.*GPU-9"):
        cli_gpus.gpus(Namespace(conn="gpu_host", json=as_json))

    assert "GPU-1" in capsys.readouterr().out


def test_containers_that_requested_all_gpus_are_warned_of(engine: FakeEngine) -> None:
    """A container with all GPUs holds none, so a warning names it."""
    run(engine, "notebook", request=GpuRequest(count=-1))

    found = list_gpus(engine)

    assert {"free"} == {one["state"] for one in found.to_json()["gpus"]}
    assert ["these containers may use the same GPUs, as they requested all: notebook"] == [
        *found.warnings
    ]


def test_without_ids_what_holds_gpus_is_listed(engine: FakeEngine) -> None:
    """On a daemon without GPU ids, the listing shows all for which an app waits.

    It has the ids that apps know, and starts no container.
    """
    engine.engine_info = replace(engine.engine_info, gpu_ids=())
    assert "" == list_gpus(engine).table(io.StringIO())
    replica(engine, "one", "GPU-a")
    replica(engine, "two", "all")
    run(engine, "by-count", request=GpuRequest(count=1))
    run(engine, "by-id", request=GpuRequest(count=1, device_ids=("1",)))
    run(engine, "notebook", request=GpuRequest(count=-1))
    engine.calls.clear()

    found = list_gpus(engine)

    named, *others = (
        (one["id"], one["app_id"], one["container"]) for one in found.to_json()["gpus"]
    )
    assert ("GPU-a", "one", "one-0") == named
    assert {(None, None, "by-count"), (None, None, "by-id"), (None, "two", "two-0")} == {*others}
    assert found.to_json()["ids_known"] is False
    assert ["notebook"] == found.to_json()["requested_all"]
    assert {"info", "rows", "inspect"} == set(engine.calls)
    lines = [line.split() for line in found.table(io.StringIO()).splitlines()]
    assert ["fake", "unknown", "held", "container", "by-count", "0", "s"] in lines
    assert ["these containers may use the same GPUs, as they requested all: notebook"] == [
        *found.warnings
    ]
    first, second = found.messages
    assert "fake://engine reports no ids of GPUs, so only what holds some is listed" == first
    assert "node-generic-resources of the daemon.json on its host" in second


def test_a_connection_supplies_ids(engine: FakeEngine) -> None:
    """The ids of a connection replace those that the daemon does not report."""
    engine.engine_info = replace(engine.engine_info, gpu_ids=())

    found = list_gpus(engine, ["GPU-a", "GPU-b"])

    assert [("GPU-a", "free"), ("GPU-b", "free")] == [
        (one["id"], one["state"]) for one in found.to_json()["gpus"]
    ]
    assert ([], []) == ([*found.warnings], [*found.messages])


def test_podman(engine: FakeEngine) -> None:
    """On Podman, the message says that requests for GPUs have no effect."""
    engine.engine_info = replace(engine.engine_info, gpu_ids=(), is_podman=True)

    assert ["fake://engine is Podman, whose Docker API ignores requests for GPUs"] == [
        *list_gpus(engine).messages
    ]
