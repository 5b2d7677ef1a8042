"""Creating, starting, renaming, listing and inspecting containers."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerDetail, GpuRequest
from airflow_torchx.core.plan.gpu_problems import WITHOUT_GPU_DRIVER
from airflow_torchx.core.state.describe import exit_code
from airflow_torchx.errors import EngineConflictError, EngineError, EngineNotFoundError
from tests.contract.script import Script

if TYPE_CHECKING:
    from airflow_torchx.core.engine.containers import ContainerSpec
    from tests.contract.bench import Bench

GONE = "f" * 64


def test_created(bench: Bench) -> None:
    """A created container is listed with the fields of its spec, and has not run."""
    before = datetime.now(UTC)
    spec = bench.spec(Script())

    container_id = bench.create(spec)
    row = bench.row(container_id)

    assert ("created", "Created") == (row.state, row.status)
    assert (spec.name, spec.image) == (row.name, row.image)
    assert spec.labels == bench.labels(row.id)
    # The list has whole seconds.
    assert before - timedelta(seconds=2) < row.created_at <= datetime.now(UTC)
    never_ran = ContainerDetail(
        id=container_id,
        state="created",
        exit_code=None,
        oom_killed=False,
        error="",
        restarts=0,
        started_at=None,
        finished_at=None,
    )
    detail = bench.detail(container_id)
    assert detail.created_at is not None
    assert before - timedelta(seconds=2) < detail.created_at <= datetime.now(UTC)
    assert never_ran == replace(detail, created_at=None)


def test_running(bench: Bench) -> None:
    """A running container has a start time, but no end time and no exit code."""
    before = datetime.now(UTC)

    container_id = bench.run(Script(then_s=None))
    row, detail = bench.row(container_id), bench.detail(container_id)

    assert "running" == row.state
    assert exit_code(row) is None
    assert ("running", None, None) == (detail.state, detail.exit_code, detail.finished_at)
    assert detail.started_at is not None
    assert before <= detail.started_at <= datetime.now(UTC)


@pytest.mark.parametrize("code", [0, 3])
def test_exited(bench: Bench, code: int) -> None:
    """The exit code is in the status and in the detail."""
    container_id = bench.run(Script(exit_code=code))
    detail = bench.ended(container_id)
    row = bench.row(container_id)

    assert ("exited", code) == (row.state, exit_code(row))
    assert ("exited", code, False, "") == (
        detail.state,
        detail.exit_code,
        detail.oom_killed,
        detail.error,
    )
    assert detail.finished_at is not None


def test_exited_at(bench: Bench) -> None:
    """The status has Docker's words, and the detail has the start and end times."""
    before = datetime.now(UTC)
    script = Script(lines=("up",), then_s=None, after_usr1=3)
    container_id = bench.run_until_it_writes(script)
    running = bench.row(container_id)
    bench.engine.signal(container_id, "SIGUSR1")
    detail = bench.ended(container_id)
    status = bench.row(container_id).status

    assert re.fullmatch(r"Up (Less than a second|\d+ seconds?)", running.status)
    assert status.startswith("Exited (3) ")
    assert status.endswith(" ago")
    assert detail.started_at is not None
    assert detail.finished_at is not None
    assert before <= detail.started_at < detail.finished_at <= datetime.now(UTC)


def test_start_twice(bench: Bench) -> None:
    """Starting a running container changes nothing."""
    container_id = bench.run(Script(then_s=None))
    started_at = bench.detail(container_id).started_at

    bench.engine.start(container_id)

    assert started_at == bench.detail(container_id).started_at


def test_start_error(bench: Bench) -> None:
    """A container that cannot start stays created, and its detail has the error."""
    container_id = bench.create(Script(entrypoint="/no/such/program"))

    with pytest.raises(EngineError, match="/no/such/program"):
        bench.engine.start(container_id)

    detail = bench.detail(container_id)
    assert ("created", None, None) == (detail.state, detail.exit_code, detail.started_at)
    assert "/no/such/program" in detail.error
    assert "Created" == bench.row(container_id).status


def test_start_gone(bench: Bench) -> None:
    """A removed container cannot be started."""
    with pytest.raises(EngineNotFoundError):
        bench.engine.start(GONE)


def test_name_conflict(bench: Bench) -> None:
    """Creating a container with a used name fails and leaves the first container alone."""
    spec = bench.spec(Script())
    first = bench.create(spec)

    with pytest.raises(EngineConflictError):
        bench.create(spec)

    assert [first] == [row.id for row in bench.rows()]


def test_name_race(bench: Bench) -> None:
    """Exactly one of several threads can create a container with a given name."""
    spec = bench.spec(Script())

    def create(_: int) -> str | None:
        try:
            return bench.create(spec)
        except EngineConflictError:
            return None

    with ThreadPoolExecutor(4) as threads:
        created = [found for found in threads.map(create, range(4)) if found]

    assert created == [row.id for row in bench.rows()]
    assert 1 == len(created)


def test_missing_image(bench: Bench) -> None:
    """A container cannot be created from a missing image."""
    with pytest.raises(EngineNotFoundError):
        bench.create(replace(bench.spec(Script()), image="airflow-torchx/no-such:image"))

    assert () == bench.rows()


def test_missing_network(bench: Bench, network_name: str) -> None:
    """A container on a missing network does not start, and its detail has the error."""
    container_id = bench.create(replace(bench.spec(Script()), network=network_name))

    with pytest.raises(EngineNotFoundError, match=network_name):
        bench.engine.start(container_id)

    assert "Created" == bench.row(container_id).status
    assert network_name in bench.detail(container_id).error


@pytest.mark.parametrize("state", ["created", "running", "exited"])
def test_rename(bench: Bench, state: str) -> None:
    """A container can be renamed in any state, which frees its old name."""
    spec = bench.spec(Script(then_s=0.0 if state == "exited" else None))
    make = {"created": bench.create, "running": bench.run, "exited": bench.run_to_its_end}
    container_id = make[state](spec)

    bench.engine.rename(container_id, f"{spec.name}.cancelled")

    assert (f"{spec.name}.cancelled", state) == (
        bench.row(container_id).name,
        bench.row(container_id).state,
    )
    assert container_id != bench.create(spec)


def test_rename_by_name(bench: Bench) -> None:
    """Of two clients that rename a container by its name, the second one finds none."""
    spec = bench.spec(Script())
    container_id = bench.create(spec)

    bench.engine.rename(spec.name, f"{spec.name}.first")
    with pytest.raises(EngineNotFoundError):
        bench.engine.rename(spec.name, f"{spec.name}.second")

    assert f"{spec.name}.first" == bench.row(container_id).name


def test_rename_to_the_current_name(bench: Bench) -> None:
    """A container keeps its name if it is renamed to it, but an invalid name is refused."""
    spec = bench.spec(Script())
    container_id = bench.create(spec)

    bench.engine.rename(container_id, spec.name)
    with pytest.raises(EngineError, match=r"rename|invalid"):
        bench.engine.rename(container_id, "-a b")

    assert spec.name == bench.row(container_id).name


def test_rename_conflict(bench: Bench) -> None:
    """A container cannot be renamed to a used name."""
    taken = bench.spec(Script())
    bench.create(taken)
    other = bench.spec(Script())
    container_id = bench.create(other)

    with pytest.raises(EngineConflictError):
        bench.engine.rename(container_id, taken.name)

    assert other.name == bench.row(container_id).name


def test_rename_gone(bench: Bench) -> None:
    """A removed container cannot be renamed."""
    with pytest.raises(EngineNotFoundError):
        bench.engine.rename(GONE, f"{bench.app_id}-new")


def test_inspect_gone(bench: Bench) -> None:
    """A removed container has no detail."""
    assert bench.engine.inspect(GONE) is None


def test_rows_by_labels(bench: Bench) -> None:
    """Rows are filtered by all given labels, by value or by presence."""

    def labelled(**more: str) -> ContainerSpec:
        spec = bench.spec(Script())
        return replace(spec, labels={**spec.labels, **more})

    plain, red, blue = (
        bench.create(spec)
        for spec in (labelled(), labelled(color="red"), labelled(color="blue", size="big"))
    )

    def found(**wanted: str | None) -> set[str]:
        mine = {labels.APP_ID: bench.app_id, **wanted}
        return {row.id for row in bench.engine.rows(mine)}

    assert {plain, red, blue} == found()
    assert {red, blue} == found(color=None)
    assert {red} == found(color="red")
    assert {blue} == found(color="blue", size=None)
    assert set() == found(color="red", size=None)
    assert set() == found(color="re")
    assert {red} <= {row.id for row in bench.engine.rows({"color": "red"})}


def test_rows_of_the_daemon(bench: Bench) -> None:
    """Without labels, the rows are those of all containers, with an app or without."""
    ours = bench.create(Script())
    strangers = bench.spec(Script())
    stranger = bench.create(replace(strangers, labels={}))
    try:
        assert {ours, stranger} <= {row.id for row in bench.engine.rows({})}
    finally:
        bench.engine.remove(stranger)


@pytest.mark.parametrize(
    "request_",
    [
        GpuRequest(count=2, device_ids=("GPU-a", "GPU-b")),
        GpuRequest(count=3),
        GpuRequest(count=-1),
        GpuRequest(count=1, device_ids=("GPU-a",), driver="cdi"),
        GpuRequest(count=1, device_ids=("0x9e",), driver="cdi", kind="amd.com/gpu"),
    ],
)
def test_gpus(bench: Bench, request_: GpuRequest) -> None:
    """The detail of a container has the GPUs that its spec requests."""
    container_id = bench.create(replace(bench.spec(Script()), gpus=request_))

    assert (request_,) == bench.detail(container_id).gpus


@pytest.mark.parametrize(
    "request_",
    [GpuRequest(count=1), GpuRequest(count=1, device_ids=("GPU-a",)), GpuRequest(count=-1)],
)
def test_a_host_without_gpus(bench: Bench, request_: GpuRequest) -> None:
    """A daemon without a driver for GPUs creates a container that requests some; no start."""
    container_id = bench.create(replace(bench.spec(Script()), gpus=request_))
    message = r'could not select device driver "" with capabilities: \[\[gpu\]\]'

    with pytest.raises(EngineError, match=message) as caught:
        bench.engine.start(container_id)

    assert WITHOUT_GPU_DRIVER.casefold() in caught.value.fix.casefold()
    assert "could not select device driver" in bench.detail(container_id).error
    assert (500, "created") == (caught.value.status, bench.detail(container_id).state)


def test_out_of_memory(bench: Bench) -> None:
    """A container that exceeds its memory limit is killed, and its detail says so."""
    spec = replace(bench.spec(Script(eats_memory=True)), memory_mib=8)
    container_id = bench.run(spec)
    bench.wait_for_oom(container_id)
    bench.engine.stop(container_id, grace_s=10)
    detail = bench.detail(container_id)

    assert (137, True) == (detail.exit_code, detail.oom_killed)


def test_sizes(bench: Bench) -> None:
    """The size of a container is what its program has written, not what its image has."""
    none = bench.create(Script())
    some = bench.run_to_its_end(Script(files={"/data": b"x" * 20_000}))

    sizes = bench.engine.sizes({labels.APP_ID: bench.app_id})

    assert sizes[none] < 5_000
    assert 20_000 <= sizes[some] < 60_000
