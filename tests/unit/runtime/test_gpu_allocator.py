"""The GPUs of one launch: their ids, and the wait for them."""

from __future__ import annotations

import itertools
import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import GpuRequest
from airflow_torchx.core.engine.images import ImageDetail
from airflow_torchx.core.plan.gpu_problems import GPU_ID_SOURCES
from airflow_torchx.errors import (
    EngineError,
    EngineUnreachableError,
    GpuWaitTimeoutError,
    InvalidAppError,
    Problem,
)
from airflow_torchx.runtime.gpu_allocator import GpuAllocator
from airflow_torchx.runtime.gpus.queue import MustWait
from airflow_torchx.runtime.watch import gpu_events
from airflow_torchx.specs import Resource
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import app, planned
from tests.unit.runtime.gpus.clients import demand, replica

if TYPE_CHECKING:
    from airflow_torchx.core.plan.job_plan import JobPlan
    from airflow_torchx.testing import Verb

CLAIM = "airflow-torchx-gpu-claim-one"
TICKET = "airflow-torchx-gpu-ticket-one"
LISTED = Program(lines=["GPU 0: NVIDIA T4 (UUID: GPU-a)", "GPU 1: NVIDIA T4 (UUID: GPU-b)"])
_NUMBERS = itertools.count()


def daemon(gpus: int = 2, programs: Program | None = None) -> FakeEngine:
    """Return a daemon, which was not probed before; with ``programs``, it reports no ids."""
    engine = FakeEngine(
        images=["busybox"],
        gpus=gpus,
        reports_gpus=programs is None,
        programs=programs or Program(runs_for_s=None),
    )
    engine.engine_info = replace(engine.engine_info, id=f"daemon {next(_NUMBERS)} of the supply")
    return engine


def supply(engine: FakeEngine, **options: Any) -> GpuAllocator:  # noqa: ANN401 - its arguments
    """Return the supply of a launch."""
    return GpuAllocator(engine, engine.info(), **options)


def plan(replicas: int = 1, gpus: int = 1, **options: Any) -> JobPlan:  # noqa: ANN401 - of `planned`
    """Return the plan of an app whose replicas have GPUs."""
    return planned(app(replicas, resource=Resource(cpu=1, gpu=gpus, memMB=64)), **options)


def run(engine: FakeEngine, name: str, *ids: str) -> None:
    """Start a replica of another app with GPUs."""
    engine.start(engine.create(replica(name, ids)))


def given(placed: JobPlan) -> list[tuple[str, ...]]:
    """Return the GPUs of each replica."""
    return [spec.gpus.device_ids if spec.gpus else () for spec in placed.containers]


def test_gpus_are_claimed_and_handed_over() -> None:
    """The plan has the ids of GPUs that are claimed until its replicas were created."""
    engine = daemon()
    gpus = supply(engine)

    assert [("GPU-0",), ("GPU-1",)] == given(gpus.allocate(plan(2)))
    assert [CLAIM] == [*engine.specs()]
    assert gpus.commit()
    assert {} == engine.specs()
    assert not gpus.commit()


@pytest.mark.parametrize("respects", [True, False])
def test_gpus_that_another_container_got_back_are_not_handed_over(respects: bool) -> None:
    """The last look is for what holds GPUs for this app."""
    engine = daemon(1)
    gpus = supply(engine)
    gpus.allocate(plan(gpu_foreign="respect" if respects else "ignore"))

    request = GpuRequest(count=1, device_ids=("GPU-0",))
    engine.start(engine.create(replace(replica("notebook", []), labels={}, gpus=request)))
    engine.calls.clear()

    assert respects is not gpus.commit()
    assert ["discard", "rows", "inspect"] == engine.calls


def test_an_app_without_gpus_needs_none() -> None:
    """Its plan is unchanged, and nothing has to be handed over or released."""
    engine = daemon()
    gpus, without = supply(engine), planned(app(2))

    assert without == gpus.allocate(without)
    assert gpus.commit()
    gpus.release()
    assert {} == engine.specs()


def test_an_event_wakes_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a holder wakes it, also if the next look without an event is an hour away."""
    monkeypatch.setattr(gpu_events, "_IDLE_S", 3600.0)
    monkeypatch.setattr(gpu_events, "_RETRIES_S", ())
    engine = daemon(1)
    run(engine, "busy", "GPU-0")

    def end() -> bool:
        # It looks before it queues up, after that, and once more; then it waits for a notify.
        if engine.calls.count("rows") >= 3 and "busy" in engine.specs():
            engine.remove("busy")
        return False

    assert [("GPU-0",)] == given(supply(engine, should_stop=end).allocate(plan()))


def test_a_daemon_without_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next app looks often, so the apps behind it do not take it for killed."""
    monkeypatch.setattr(gpu_events, "_IDLE_S", 3600.0)
    monkeypatch.setattr(gpu_events, "_RETRIES_S", ())
    engine = daemon(1)
    engine.fail_next("events", EngineError("403: a proxy forbids this"), times=10**6)
    run(engine, "busy", "GPU-0")

    def end() -> bool:
        if engine.calls.count("rows") >= 3 and "busy" in engine.specs():
            engine.remove("busy")
        return False

    gpus = supply(engine, timeout_s=30, should_stop=end)
    assert [("GPU-0",)] == given(gpus.allocate(plan()))


def test_what_an_app_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """One line says who holds the GPUs, however often it looks; and one which it gets."""
    caplog.set_level(logging.INFO, logger="airflow_torchx.runtime")
    engine = daemon(2)
    run(engine, "busy", "GPU-1")
    looks = 0

    def end(verb: Verb, _: str) -> None:
        nonlocal looks
        looks += verb == "rows"
        if verb == "rows" and looks == 5:
            engine.remove("busy")

    engine.before = end

    supply(engine).allocate(plan(2))

    # A thread of the test before may still log that its daemon sends no events.
    own = [record for record in caplog.records if record.thread == threading.get_ident()]
    waits, gets = (record.getMessage() for record in own)
    assert waits.startswith("waiting for 2 GPUs on fake: GPU-1 is held by app busy (")
    assert "app app-1 gets GPU-0, GPU-1" == gets


def test_a_wait_that_takes_too_long() -> None:
    """The error says who holds the GPUs, after one look at least."""
    engine = daemon(1)
    gpus = supply(engine, timeout_s=0)
    assert [("GPU-0",)] == given(gpus.allocate(plan()))
    gpus.release()
    run(engine, "busy", "GPU-0")

    with pytest.raises(
        GpuWaitTimeoutError,
        match=r"gave up after 0 s \(gpu_wait_timeout_s\), waiting for 1 GPU on fake: GPU-0 is held",
    ):
        gpus.allocate(plan())


def test_the_timeout_counts_from_the_first_wait() -> None:
    """An app that lost its claim to another client waits no longer than one that kept it."""
    engine = daemon(1)
    run(engine, "busy", "GPU-0")
    gpus, ends = supply(engine, waiting="elsewhere", timeout_s=60), []

    for _ in range(2):
        with pytest.raises(MustWait) as caught:
            gpus.allocate(plan())
        ends.append(caught.value.demand.until_s)

    assert ends[0] == ends[1]


def test_a_wait_that_is_stopped() -> None:
    """It stops when it is asked to, also if events arrive without end."""
    engine = daemon(1)
    run(engine, "busy", "GPU-0")
    stops = iter([False] * 3 + [True])

    with pytest.raises(StopRequested):
        supply(engine, should_stop=lambda: next(stops)).allocate(plan())


def test_a_wait_that_another_process_can_go_on_with() -> None:
    """A wait that is stopped keeps its place, and says what it waits for and until when."""
    engine = daemon(1)
    run(engine, "busy", "GPU-0")
    stopped = supply(engine, waiting="resumable", timeout_s=60, should_stop=lambda: True)

    with pytest.raises(MustWait, match="GPU-0 is held by app busy") as caught:
        stopped.allocate(plan())

    assert [TICKET, "busy"] == sorted(engine.specs())
    assert caught.value.demand.until_s is not None


def test_a_wait_goes_on_through_an_outage() -> None:
    """A daemon that does not answer for a moment does not end the wait."""
    engine = daemon(1)
    run(engine, "busy", "GPU-0")
    looks = 0

    def fail(verb: Verb, _: str) -> None:
        nonlocal looks
        looks += verb == "rows"
        if verb == "rows" and looks == 4:
            engine.fail_next("rows", EngineUnreachableError("gone"))
        if verb == "rows" and looks == 6:
            engine.remove("busy")

    engine.before = fail

    assert [("GPU-0",)] == given(supply(engine).allocate(plan()))


@pytest.mark.parametrize("waiting", ["here", "resumable", "elsewhere"])
def test_the_first_request_goes_on_through_an_outage(waiting: str) -> None:
    """A try that follows a killed one does not lose its ticket by one lost answer."""
    engine = daemon(1)
    engine.fail_next("rows", EngineUnreachableError("gone"))

    assert [("GPU-0",)] == given(supply(engine, waiting=waiting).allocate(plan()))


def test_a_worker_that_shuts_down_in_an_outage() -> None:
    """Another process can go on with the wait, and learns why this one saw no GPUs."""
    engine = daemon(1)
    engine.fail_next("rows", EngineUnreachableError("the daemon is gone"))
    stopped = supply(engine, waiting="resumable", should_stop=lambda: True)

    with pytest.raises(MustWait, match="the daemon is gone"):
        stopped.allocate(plan())


def test_a_deferrable_task_does_not_wait() -> None:
    """It keeps its place, which others respect for longer, and gets the reason."""
    engine = daemon(1)
    run(engine, "busy", "GPU-0")

    with pytest.raises(MustWait, match="GPU-0 is held by app busy") as caught:
        supply(engine, waiting="elsewhere").allocate(plan())

    assert ("one", 1) == (caught.value.demand.key, caught.value.demand.count)
    assert "60" == engine.specs()[TICKET].labels[labels.GPU_TIMEOUT]


def test_a_release_leaves_the_queue() -> None:
    """It leaves no ticket and no claim."""
    engine = daemon(1)
    waiting, launching = supply(engine, waiting="elsewhere"), supply(engine)
    launching.allocate(plan())
    with pytest.raises(MustWait):
        waiting.allocate(plan(launch_id="two"))

    waiting.release()
    assert [CLAIM] == [*engine.specs()]
    launching.release()
    assert {} == engine.specs()


def test_ids_are_looked_up_in_the_image() -> None:
    """Where the daemon reports no GPUs, nvidia-smi lists them."""
    engine = daemon(2, LISTED)

    assert [("GPU-a",), ("GPU-b",)] == given(supply(engine).allocate(plan(2)))


def test_more_gpus_than_nvidia_smi_lists() -> None:
    """An app that can never have its GPUs does not wait for them."""
    engine = daemon(2, LISTED)

    with pytest.raises(InvalidAppError, match="request 3 GPUs, but fake://engine has 2"):
        supply(engine).allocate(plan(3))

    assert {} == engine.specs()


def test_without_ids_one_app_at_a_time_has_all_gpus(caplog: pytest.LogCaptureFixture) -> None:
    """One replica requests GPUs by count, and the next app waits for it; a warning says so."""
    engine = daemon(2, Program(exit_code=1))
    gpus = supply(engine)

    placed = gpus.allocate(plan(1, gpus=2))

    (spec,) = placed.containers
    assert spec.gpus is not None
    assert (2, ()) == (spec.gpus.count, spec.gpus.device_ids)
    assert "all" == spec.labels[labels.GPUS]
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "the ids of the GPUs of fake are unknown, so app app-1 runs alone on them" in warning
    assert GPU_ID_SOURCES in warning
    with pytest.raises(MustWait, match="the ids of its GPUs are unknown: app app-1"):
        supply(engine, waiting="elsewhere").allocate(plan(launch_id="two"))


@pytest.mark.parametrize(
    ("replicas", "options", "fix"),
    [(2, {}, "auto_set_gpus=False"), (1, {"gpu_driver": "cdi"}, "leave out gpu_driver=cdi")],
)
def test_without_ids_several_replicas_are_refused(
    replicas: int, options: dict[str, Any], fix: str
) -> None:
    """Docker would give all of them the first GPUs; and CDI needs ids."""
    engine = daemon(2, Program(exit_code=1))
    unknown = "the ids of the GPUs of fake://engine are unknown"

    with pytest.raises(InvalidAppError, match=f"{unknown}.*{fix}"):
        supply(engine).allocate(plan(replicas, **options))

    assert {} == engine.specs()


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_host_without_a_driver_for_gpus(replicas: int, caplog: pytest.LogCaptureFixture) -> None:
    """Any number of replicas is refused with the daemon's message, before GPUs are claimed."""
    caplog.set_level(logging.INFO, logger="airflow_torchx.runtime")
    engine = daemon(0)

    with pytest.raises(InvalidAppError) as caught:
        supply(engine).allocate(plan(replicas))

    assert [
        Problem(
            "roles",
            "fake://engine has no driver for GPUs: could not select device driver"
            ' "" with capabilities: [[gpu]]',
            "request no GPUs, or install the NVIDIA Container Toolkit on the daemon's host",
        )
    ] == [*caught.value.problems]
    assert [] == caplog.records
    assert {} == engine.specs()


@pytest.mark.parametrize(("count", "which"), [(1, "first GPU"), (2, "first 2 GPUs")])
def test_shared_gpus_are_logged(count: int, which: str, caplog: pytest.LogCaptureFixture) -> None:
    """An app that takes no GPUs of its own says whose it uses."""
    caplog.set_level(logging.INFO, logger="airflow_torchx.runtime")
    engine = daemon(2)
    shared = plan(2, gpus=count, auto_set_gpus=False)

    assert shared == supply(engine).allocate(shared)

    # A thread that another test has left may log its stop of an app meanwhile.
    (line,) = (r.getMessage() for r in caplog.records if r.name.endswith("gpu_allocator"))
    used = f"app app-1 uses the {which} of fake, which other apps may use at the same time"
    assert f"{used} (auto_set_gpus=False)" == line
    assert {} == engine.specs()


def test_markers_and_probes_have_no_volumes() -> None:
    """Docker would copy the files of the image to new volumes at each create."""
    detail = {"busybox": ImageDetail(id="", volumes=("/data",))}
    silent = FakeEngine(image_details=detail, gpus=1, reports_gpus=False, programs=LISTED)
    silent.engine_info = replace(silent.engine_info, id=f"daemon {next(_NUMBERS)} of the supply")
    made: list[Any] = []
    silent.before = lambda verb, _: made.extend(silent.specs().values()) if verb != "info" else None

    supply(silent).allocate(plan())

    assert {"probe", "lock", "claim"} == {spec.labels[labels.GPU_MARKER] for spec in made}
    assert [{"/data": ""}] * len(made) == [spec.host.tmpfs for spec in made]


def test_the_wait_for_the_lock_ends_in_time() -> None:
    """The timeout counts while another client decides about the GPUs, too."""
    engine = daemon(1)
    engine.create(demand("other").spec("lock"))

    with pytest.raises(GpuWaitTimeoutError, match=r"gave up .*, waiting for the lock of the GPUs"):
        supply(engine, timeout_s=0).allocate(plan())


def test_a_launch_that_is_stopped_while_it_waits_for_the_lock() -> None:
    """Another process can go on with the wait, in the same place of the queue."""
    engine = daemon(1)
    run(engine, "busy", "GPU-0")

    def free(verb: Verb, _: str) -> None:
        if verb == "rows" and TICKET in engine.specs():
            engine.before = None
            engine.remove("busy")
            engine.create(demand("other").spec("lock"))

    engine.before = free
    stopped = supply(engine, waiting="resumable", should_stop=lambda: True)

    with pytest.raises(MustWait, match="waiting for"):
        stopped.allocate(plan())

    assert ["airflow-torchx-gpu-lock", TICKET] == sorted(engine.specs())
