"""Reading what the replicas of an app use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.plan.progress import PROGRESS_PATH
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.usage import UsageHistory
from airflow_torchx.errors import EngineError, EngineUnreachableError
from airflow_torchx.runtime import attach, launching, lifecycle
from airflow_torchx.runtime.gang_log import GangLog
from airflow_torchx.runtime.stall import StallDetector
from airflow_torchx.runtime.usage import UsageMonitor, UsageSampler
from airflow_torchx.specs import DescribeAppResponse, ReplicaUsage, Resource
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.apps import app, planned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.logs.lines import LogLine
    from airflow_torchx.specs import ReplicaStatus

MIB = 1 << 20
BUSY = Program(runs_for_s=None, cpus=1.5, memory_bytes=30 * MIB)


class SilentLog(GangLog):
    """Reads all logs, and writes none."""

    def emit(self, replica: ReplicaStatus, lines: Sequence[LogLine]) -> None:
        """Drop some lines."""


class Scene:
    """An app on a fake daemon, and what reads its usage."""

    def __init__(self, programs: Any = BUSY, replicas: int = 1, gpus: Sequence[str] = ()) -> None:  # noqa: ANN401 - see FakeEngine
        self.clock = ManualClock()
        self.engine = FakeEngine(
            images=["busybox"],
            programs=programs,
            clock=self.clock,
            sleep=self.clock.advance,
            gpus=2,
        )
        needs = Resource(cpu=2, gpu=len(gpus) or -1, memMB=64)
        plan = planned(app(replicas, resource=needs), stalled_after_s=60)
        launching.launch(self.engine, plan.with_gpus(gpus, "") if gpus else plan)
        self.monitor = UsageMonitor(clock=self.clock)

    def app(self) -> DescribeAppResponse:
        """Return the app as its daemon lists it."""
        found = lifecycle.observe(self.engine, "app-1", inspect_all=True)
        assert found is not None
        return found

    def refresh(self, max_age_s: float = 0.0) -> None:
        """Read what all replicas use."""
        for replica in replicas_of(self.app()):
            self.monitor.refresh(self.engine, replica, max_age_s)

    def usage(self) -> ReplicaUsage | None:
        """Return what the first replica uses, as far as it was read."""
        return replicas_of(self.monitor.mark(self.app()))[0].usage


def test_a_replica() -> None:
    """What a replica uses is shown beside its limits."""
    scene = Scene()
    scene.clock.advance(10)
    scene.refresh()
    scene.clock.advance(10)
    scene.refresh()

    found = scene.usage()

    assert found is not None
    assert (1.5, 2.0, 30.0) == (found.cpus, found.cpus_limit, found.cpu_s)
    assert (30 * MIB, 64 * MIB) == (found.memory_bytes, found.memory_limit_bytes)
    assert found.gpu_percent is None
    assert 2 == scene.engine.calls.count("usage")


def test_limits_are_read_once() -> None:
    """A sweep makes one request for each replica, after the first one."""
    scene = Scene(replicas=3)
    scene.refresh()
    rows = scene.app()
    before = len(scene.engine.calls)

    for replica in replicas_of(rows):
        scene.monitor.refresh(scene.engine, replica, 0)

    assert ["usage"] * 3 == scene.engine.calls[before:]


def test_gpus() -> None:
    """The use of a replica's GPUs is read in its container."""
    scene = Scene(
        Program(runs_for_s=None, commands={"nvidia-smi": (0, b"40, 10, 20\n")}), gpus=["GPU-0"]
    )
    scene.refresh()

    found = scene.usage()

    assert found is not None
    assert (40.0, 10 * MIB, 20 * MIB) == (
        found.gpu_percent,
        found.gpu_memory_bytes,
        found.gpu_memory_limit_bytes,
    )


@pytest.mark.parametrize(
    ("commands", "tries"),
    [
        ({}, 1),
        ({"nvidia-smi": (None, b"")}, 3),
        ({"nvidia-smi": (9, b"no device")}, 5),
        ({"nvidia-smi": (0, b"1e999, 10, 20")}, 5),
        ({"nvidia-smi": (0, b"40, 10, " + b"9" * 400)}, 5),
    ],
)
def test_gpus_that_cannot_be_read(commands: dict[str, Any], tries: int) -> None:
    """A container without the command is asked once, one in which it hangs three times.

    A program in the container can print any number.
    """
    scene = Scene(Program(runs_for_s=None, commands=commands), gpus=["GPU-0"])

    for _ in range(5):
        scene.refresh()

    found = scene.usage()
    assert found is not None
    assert (None, MIB) == (found.gpu_memory_bytes, found.memory_bytes)
    assert tries == scene.engine.calls.count("execute")


@pytest.mark.parametrize(
    "error", [EngineError("cannot read it"), EngineUnreachableError("away", fix="Wait.")]
)
def test_an_error_costs_a_sample(error: EngineError) -> None:
    """What cannot be read is skipped."""
    scene = Scene()
    scene.engine.fail_next("usage", error)

    scene.refresh()
    assert scene.usage() is None
    scene.refresh()

    assert scene.usage() is not None


def test_a_container_whose_limits_cannot_be_read() -> None:
    """Its usage is known without them."""
    scene = Scene()
    replica = replicas_of(scene.app())[0]
    scene.engine.fail_next("inspect", EngineError("not now"))

    scene.monitor.refresh(scene.engine, replica, 0)

    found = scene.usage()
    assert found is not None
    assert (None, None) == (found.cpus_limit, found.memory_limit_bytes)


def test_a_replica_that_has_ended() -> None:
    """It has no usage, and keeps what it had."""
    scene = Scene(Program(runs_for_s=10, memory_bytes=5 * MIB))
    scene.refresh()
    scene.clock.advance(20)
    scene.refresh()

    found = scene.usage()

    assert found is not None
    assert 5 * MIB == found.memory_peak_bytes


def test_a_stall_detector_and_a_sweep_share_their_readings() -> None:
    """What a detector has read is not read again, and is in the history."""
    scene = Scene()
    detector = StallDetector(scene.clock, scene.monitor)
    for _ in range(61):
        detector.check(scene.engine, scene.app())
        scene.refresh(max_age_s=7.5)
        scene.clock.advance(1)

    # Every 6 s, for `stalled_after_s` is 60.
    assert 11 == scene.engine.calls.count("usage")
    assert scene.usage() is not None


def sweeps() -> list[threading.Thread]:
    """Return the sweeps that are in progress."""
    return [one for one in threading.enumerate() if one.name == "torchx-usage"]


def sampled(scene: Scene, sampler: UsageSampler) -> None:
    """Show the sampler an app, and wait for the sweep."""
    sampler.look(scene.app())
    for thread in sweeps():
        thread.join(60)


def test_a_sweep_in_the_background() -> None:
    """An app that is shown starts a sweep, and the next one follows after two seconds."""
    scene = Scene(replicas=3)
    sampler = UsageSampler(scene.engine, scene.monitor, scene.clock)

    for seconds, readings in ((0, 3), (1.9, 3), (0.1, 6), (3.9, 6), (0.1, 9)):
        scene.clock.advance(seconds)
        sampled(scene, sampler)
        assert readings == scene.engine.calls.count("usage")

    assert scene.usage() is not None


def test_a_sweep_that_hangs() -> None:
    """No second one starts beside it, and once the wait is over it asks for nothing more."""
    scene = Scene(replicas=6)
    sampler = UsageSampler(scene.engine, scene.monitor, scene.clock)
    seen, release, hanging = scene.app(), threading.Event(), threading.Barrier(5)

    def hang(verb: str, _: str) -> None:
        if verb in {"usage", "read_file"} and not release.is_set():
            hanging.wait(60)
            release.wait(60)

    scene.engine.before = hang
    try:
        sampler.look(seen)
        hanging.wait(60)
        scene.clock.advance(60)
        sampler.look(seen)
        (sweep,) = sweeps()
        sampler.close()
    finally:
        release.set()
    sweep.join(60)
    scene.clock.advance(60)
    sampler.look(seen)

    assert [] == sweeps()
    assert 4 == sum(scene.engine.calls.count(verb) for verb in ("usage", "read_file"))


def test_an_app_that_does_not_run() -> None:
    """It is not read."""
    scene = Scene(Program())

    sampled(scene, UsageSampler(scene.engine, scene.monitor, scene.clock))

    assert "usage" not in scene.engine.calls
    assert "read_file" not in scene.engine.calls


def test_a_sweep_reads_progress(caplog: pytest.LogCaptureFixture) -> None:
    """A sweep reads how far the program is, and the log has it as a line."""
    program = Program(runs_for_s=None, files={PROGRESS_PATH: b'{"step": 3, "total": 9}'})
    scene = Scene(program, replicas=3)

    with caplog.at_level("INFO"):
        sampled(scene, UsageSampler(scene.engine, scene.monitor, scene.clock))

    assert ["step 3/9"] == [line for line in caplog.messages if line.startswith("step")]
    assert 1 == scene.engine.calls.count("read_file")
    assert 3 == scene.monitor.to_json(16_384)["progress"]["step"]


def test_a_daemon_that_hangs_holds_up_no_wait() -> None:
    """An app ends although the daemon does not say what it uses."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launching.launch(engine, planned(app(2)))
    release = threading.Event()
    asked: list[str] = []

    def hang(verb: str, name: str) -> None:
        if verb in {"usage", "read_file"}:
            asked.append(name)
            release.wait(60)

    def end_what_was_asked() -> bool:
        for index in range(2 if asked else 0):
            engine.end(f"trainer/{index}")
        return False

    engine.before = hang
    try:
        ended = attach.watch(
            engine, attach.look(engine, "app-1"), {}, end_what_was_asked, SilentLog
        )
    finally:
        release.set()

    assert ["SUCCEEDED", None] == [
        ended.state.name,
        replicas_of(ended)[0].usage,
    ]


def test_a_wait_knows_what_its_app_has_used() -> None:
    """An app that has ended has the usage of its replicas, and goes on from earlier readings."""
    program = Program(runs_for_s=None, memory_bytes=7 * MIB)
    engine = FakeEngine(images=["busybox"], programs=program)
    launching.launch(engine, planned(app(1)))
    seen, monitor = attach.look(engine, "app-1"), UsageMonitor(UsageHistory())

    def end_what_was_read() -> bool:
        if replicas_of(monitor.mark(seen))[0].usage is not None:
            engine.end("trainer/0")
        return False

    ended = attach.watch(engine, seen, {}, end_what_was_read, SilentLog, usage=monitor)

    used = replicas_of(ended)[0].usage
    assert used is not None
    assert 7 * MIB == used.memory_peak_bytes
