"""Apps that make no progress are stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.engine.containers import GpuRequest
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.errors import EngineError, EngineUnreachableError, StalledError
from airflow_torchx.runtime import attach, launching, lifecycle, waiting
from airflow_torchx.runtime.stall import StallDetector
from airflow_torchx.specs import AppState, DescribeAppResponse, Resource
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.apps import app, planned, states

if TYPE_CHECKING:
    from collections.abc import Sequence

#: It runs until it is stopped, and does nothing.
HUNG = Program(runs_for_s=None, cpus=0.0, lines=["step 1"], term_exit_code=0)


class Scene:
    """An app on a fake daemon, and the detector that looks at it."""

    def __init__(
        self,
        programs: Any,  # noqa: ANN401 - see FakeEngine
        replicas: int = 2,
        *,
        gpus: Sequence[str] = (),
        checkpoint_signal: str | None = None,
        **role: Any,  # noqa: ANN401 - fields of a role
    ) -> None:
        self.clock = ManualClock()
        self.engine = FakeEngine(
            images=["busybox"],
            programs=programs,
            clock=self.clock,
            sleep=self.clock.advance,
            gpus=2,
        )
        saves = {"checkpoint_signal": checkpoint_signal} if checkpoint_signal else {}
        plan = planned(app(replicas, **role), stalled_after_s=60, stop_grace_s=5, **saves)
        if gpus:
            plan = plan.with_gpus(gpus, "")
        launching.launch(self.engine, plan)
        self.detector = StallDetector(self.clock)

    def app(self) -> DescribeAppResponse:
        """Return the app as its daemon lists it."""
        found = lifecycle.observe(self.engine, "app-1", inspect_all=True)
        assert found is not None
        return found

    def stops_within(self, seconds: int) -> bool:
        """Look at the app every second; return whether it was stopped."""
        for _ in range(seconds):
            if self.detector.check(self.engine, self.app()):
                return True
            self.clock.advance(1)
        return False


def test_a_hung_app_fails() -> None:
    """An app without a sign of life for its time is stopped, and FAILED for every client."""
    scene = Scene(HUNG)

    assert not scene.stops_within(60)
    assert scene.stops_within(10)
    assert AppState.FAILED is scene.app().state
    assert ["FAILED", "FAILED"] == states(scene.engine)
    assert ["app-1-trainer-0", "app-1-trainer-1"] == [r.hostname for r in replicas_of(scene.app())]
    assert {"app-1-trainer-0.stalled", "app-1-trainer-1.stalled"} == set(scene.engine.specs())


def test_its_error_says_so() -> None:
    """The error of a stalled app has a type of its own, and the exit code does not hide it."""
    scene = Scene(HUNG)
    assert scene.stops_within(70)

    error = attach.failure(scene.engine, scene.app(), frozenset())

    assert isinstance(error, StalledError)
    assert "failed first: stalled: no line, no CPU use and no GPU use" in error.card


@pytest.mark.parametrize(
    "busy",
    [
        Program(runs_for_s=None, cpus=0.06),
        Program(runs_for_s=None, cpus=0.0, lines=["step"] * 20, line_every_s=50),
    ],
)
def test_one_active_replica_keeps_the_app(busy: Program) -> None:
    """An app goes on while one replica uses a CPU, or writes a line from time to time."""
    scene = Scene({"trainer": HUNG, "trainer/1": busy})

    assert not scene.stops_within(600)


def test_the_end_of_the_busy_replica_starts_the_clock() -> None:
    """A hung replica is noticed once the others have ended."""
    scene = Scene({"trainer": HUNG, "trainer/1": Program(runs_for_s=100, cpus=1.0)})

    assert not scene.stops_within(100)
    assert scene.stops_within(20)
    assert ["FAILED", "SUCCEEDED"] == states(scene.engine)


def test_an_app_that_hangs_is_not_asked_to_save() -> None:
    """Its replicas show their stacks and get SIGTERM, but no checkpoint signal."""
    saves = replace(HUNG, on_signal={"SIGUSR1": 1})
    scene = Scene(saves, checkpoint_signal="SIGUSR1")

    assert scene.stops_within(70)

    assert {"app-1-trainer-0.stalled", "app-1-trainer-1.stalled"} == set(scene.engine.specs())
    assert not any(scene.engine.signals().values())


def test_stacks_are_written_before_the_stop() -> None:
    """Each replica gets the command that writes its stacks while it still runs."""
    ran: list[str] = []
    scene = Scene(HUNG)
    scene.engine.before = lambda verb, _: ran.append(verb)

    assert scene.stops_within(70)

    stop = ran.index("stop")
    assert 2 == ran[:stop].count("execute")
    assert 2 == ran[:stop].count("rename")
    assert ran.index("rename") < ran.index("execute")


@pytest.mark.parametrize(
    ("commands", "is_stopped"),
    [
        ({"nvidia-smi": (0, b"0, 9, 99\n0, 9, 99\n")}, True),
        ({"nvidia-smi": (0, b"0, 9, 99\n98, 9, 99\n")}, False),
        ({"nvidia-smi": (9, b"no devices")}, False),
        ({"nvidia-smi": (0, b"[N/A], 9, 99\n")}, False),
        ({}, False),
    ],
)
def test_gpus(commands: dict[str, tuple[int, bytes]], *, is_stopped: bool) -> None:
    """A replica with a busy GPU, or one whose use cannot be read, counts as active."""
    hung = Program(runs_for_s=None, cpus=0.0, commands=commands)
    clock = ManualClock()
    engine = FakeEngine(images=["busybox"], programs=hung, clock=clock, sleep=clock.advance, gpus=2)
    needs = app(1, resource=Resource(cpu=-1, gpu=1, memMB=-1))
    plan = planned(needs, stalled_after_s=60).with_gpus(["GPU-0"], "")
    assert GpuRequest(count=1, device_ids=("GPU-0",)) == plan.containers[0].gpus
    launching.launch(engine, plan)
    detector = StallDetector(clock)

    for _ in range(70):
        found = lifecycle.observe(engine, "app-1")
        assert found is not None
        detector.check(engine, found)
        clock.advance(1)

    assert (["FAILED"] if is_stopped else ["RUNNING"]) == states(engine)


@pytest.mark.parametrize("verb", ["usage", "logs"])
def test_what_cannot_be_read_counts_as_activity(
    verb: Any,  # noqa: ANN401 - a verb
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A refused reading keeps the app, with one warning."""
    scene = Scene(HUNG)
    scene.engine.fail_next(verb, EngineError("logs of this driver cannot be read"), times=10_000)

    assert not scene.stops_within(200)
    assert 1 == caplog.text.count("counts as active: logs of this driver cannot be read")


def test_an_outage_does_not_count() -> None:
    """The time in which the daemon does not answer is not a time without progress."""
    scene = Scene(HUNG, replicas=1)
    assert not scene.stops_within(59)
    error = EngineUnreachableError("the daemon is away", fix="Wait.")
    scene.engine.fail_next("usage", error)

    with pytest.raises(EngineUnreachableError):
        scene.stops_within(10)

    assert not scene.stops_within(60)
    assert scene.stops_within(20)


def test_a_daemon_that_answers_slowly_does_not_count() -> None:
    """The time until the daemon answers, as after a pause of it, is left out."""
    scene = Scene(HUNG, replicas=1)
    assert not scene.stops_within(30)

    def pause(verb: str, _: str) -> None:
        if verb == "usage":
            scene.engine.before = lambda *_: None
            scene.clock.advance(50)

    scene.engine.before = pause

    assert not scene.stops_within(29)
    assert scene.stops_within(20)


def roles_scene(trainer: Program, server: Program) -> tuple[FakeEngine, ManualClock]:
    """Return a daemon and its clock, with an app of a trainer and an auxiliary server."""
    clock = ManualClock()
    engine = FakeEngine(
        images=["busybox"],
        programs={"trainer": trainer, "server": server},
        clock=clock,
        sleep=clock.advance,
    )
    (role,) = app(1).roles
    roles = replace(app(1), roles=[role, replace(role, name="server")])
    plan = planned(roles, stalled_after_s=60, stop_grace_s=5, essential_roles=["trainer"])
    launching.launch(engine, plan)
    return engine, clock


def looks(engine: FakeEngine, clock: ManualClock, seconds: int) -> bool:
    """Look at an app every second; return whether it was stopped."""
    detector = StallDetector(clock)
    for _ in range(seconds):
        found = lifecycle.observe(engine, "app-1")
        assert found is not None
        if detector.check(engine, found):
            return True
        clock.advance(1)
    return False


BUSY = Program(runs_for_s=None, cpus=1.0)


def test_a_busy_auxiliary_role_does_not_keep_a_hung_app() -> None:
    """Only the essential roles count; the auxiliary ones are stopped with the app."""
    engine, clock = roles_scene(HUNG, BUSY)
    assert looks(engine, clock, 70)

    ended = waiting.wait(engine, "app-1", timeout_s=60)

    assert AppState.FAILED is ended.state
    stalled = {replica.role: replica.stalled for replica in replicas_of(ended)}
    assert {"trainer": True, "server": False} == stalled
    error = attach.failure(engine, attach.look(engine, "app-1", inspect_all=True), frozenset())
    assert isinstance(error, StalledError)
    assert "trainer/0" == error.replica


def test_a_hung_auxiliary_role_stops_nothing() -> None:
    """An app whose essential replicas work is left alone."""
    engine, clock = roles_scene(BUSY, HUNG)

    assert not looks(engine, clock, 600)


def test_a_hung_app_is_not_restarted() -> None:
    """A stall fails the app although it has a restart left; the task can be retried."""
    engine = FakeEngine(images=["busybox"], programs=HUNG)
    launching.launch(engine, planned(app(1, max_retries=1), stalled_after_s=1))

    ended = waiting.wait(engine, "app-1", timeout_s=60)

    (replica,) = replicas_of(ended)
    assert (AppState.FAILED, 0, True) == (ended.state, replica.round, replica.stalled)


def test_apps_without_the_option_are_not_read() -> None:
    """An app that does not ask for it costs no request."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=0.2, cpus=0.0))
    launching.launch(engine, planned(app(1)))

    waiting.wait(engine, "app-1", timeout_s=60)

    assert "usage" not in engine.calls


def test_a_wait_stops_a_hung_app() -> None:
    """Who waits for an app looks at its progress."""
    engine = FakeEngine(images=["busybox"], programs=HUNG)
    launching.launch(engine, planned(app(2), stalled_after_s=1))

    ended = waiting.wait(engine, "app-1", timeout_s=60)

    assert AppState.FAILED is ended.state
    assert all(replica.stalled for replica in replicas_of(ended))


def test_a_cancel_of_a_stalled_app_keeps_its_state() -> None:
    """A cancel while a stalled app is stopped changes nothing."""
    scene = Scene(Program(runs_for_s=None, cpus=0.0, on_term="ignore"), replicas=1)
    scene.engine.fail_next("stop", EngineError("not now"))
    assert not scene.stops_within(63)
    assert ["app-1-trainer-0.stalled"] == list(scene.engine.specs())

    lifecycle.cancel(scene.engine, "app-1", grace_s=0, pauses_s=(0,))

    assert ["FAILED"] == states(scene.engine)


def test_a_stop_that_is_refused_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """A daemon that refuses to stop a hung app is asked again; its stacks are written once."""
    scene = Scene(HUNG)
    scene.engine.fail_next("stop", EngineError("permission denied"), times=4)

    assert scene.stops_within(90)
    assert ["FAILED", "FAILED"] == states(scene.engine)
    assert 1 == caplog.text.count("has stalled")
    assert "cannot stop the stalled app app-1, retrying: permission denied" in caplog.text
    assert 2 == scene.engine.calls.count("execute")


def test_a_wait_goes_on_when_a_stop_is_refused() -> None:
    """A refused stop does not end the wait for a hung app."""
    engine = FakeEngine(images=["busybox"], programs=HUNG)
    launching.launch(engine, planned(app(1), stalled_after_s=1))
    engine.fail_next("stop", EngineError("permission denied"))

    assert AppState.FAILED is waiting.wait(engine, "app-1", timeout_s=60).state


def test_a_command_that_hangs_is_not_run_again_and_again() -> None:
    """A command that Docker cannot end is run three times in a container, and no more."""
    hung = Program(runs_for_s=None, cpus=0.0, commands={"nvidia-smi": (None, b"")})
    scene = Scene(hung, replicas=1, resource=Resource(cpu=-1, gpu=1, memMB=-1), gpus=["GPU-0"])

    assert not scene.stops_within(600)
    assert 3 == scene.engine.calls.count("execute")
