"""What earlier releases stored for a task is adopted, resumed and collected by this one.

A file in `tests/upgrade` holds what one release stored: labels, task record, deferral and trigger.
It is frozen. A release that stores another form adds a file.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from airflow.sdk.execution_time.comms import DeferTask
from structlog.testing import capture_logs

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerSpec, LogQuery
from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.runtime.watch import Watches
from airflow_torchx.specs import from_dict
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from airflow_torchx.triggers import TorchXDockerTrigger
from tests.airflow.fake_daemon import Hook, OnFakeDaemon
from tests.airflow.processes import until
from tests.airflow.supervisor import Ended, Supervisor
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.docker_engine import DockerEngine
    from airflow_torchx.runtime.watch import Watch

_STORED: Final = Path(__file__).parents[1] / "upgrade"
FILES: Final = sorted(_STORED.glob("[0-9]*.json"))
#: What tasks had stored that waited for GPUs.
WAITS: Final = sorted(_STORED.glob("gpus-*.json"))
#: Runs until it is stopped, and has succeeded then.
PROGRAM: Final = Program(
    lines=["step 1", "step 2"],
    line_every_s=10,
    runs_for_s=None,
    term_exit_code=0,
    files={"/result.json": b"[7]"},
)


class Upgraded:
    """A task of this release, and what an earlier release stored for it.

    Args:
        engine: the daemon.
        stored: what was stored.
        run_id: the DAG run.
        clock: what the daemon tells the time by; None for real time.
    """

    def __init__(
        self,
        engine: Engine,
        stored: Any,  # noqa: ANN401 - any JSON
        run_id: str,
        clock: ManualClock | None,
    ) -> None:
        self.engine = engine
        self.stored = stored
        self._run_id = run_id
        self._clock = clock
        self.ids: list[str] = []

    def launch(self) -> None:
        """Create and start the containers as the earlier release did."""
        app = from_dict(self.stored["task"]["app"])
        (role,) = app.roles
        if not self.engine.networks("torchx"):
            self.engine.create_network("torchx")
        for number, container in enumerate(self.stored["containers"]):
            spec = ContainerSpec(
                role=role.name,
                replica=number,
                image=role.image,
                entrypoint=role.entrypoint,
                args=tuple(role.args),
                env={},
                network="torchx",
                **container,
            )
            self.ids.append(self.engine.create(spec))
            self.engine.start(self.ids[-1])
        if self._clock is None:
            # The program has a trap for SIGTERM then, and ends by it.
            until(lambda: all(map(self._has_begun, self.ids)), "the programs")

    def _has_begun(self, container_id: str) -> bool:
        return b"step 1" in b"".join(self.engine.logs(container_id, LogQuery()))

    def end(self) -> None:
        """Let the app succeed."""
        if self._clock is not None:
            self._clock.advance(100)
        for container_id in self.ids:
            self.engine.stop(container_id, 10)

    def supervisor(self, record: str, **arguments: Any) -> Supervisor:  # noqa: ANN401 - the operator's arguments
        """Return what runs the task, with the record that was stored in this phase."""
        given = {"task_id": "gang", "deferrable": True, **self.stored["task"], **arguments}
        if isinstance(self.engine, FakeEngine):
            task: TorchXDockerOperator = OnFakeDaemon(**given)
            task.fake_hook = Hook(self.engine)
        else:
            task = TorchXDockerOperator(**given)
        supervisor = Supervisor(task, run_id=self._run_id)
        supervisor.store |= self.stored[record]
        return supervisor

    @property
    def deferred(self) -> Ended:
        """How the process ended that deferred, before the upgrade."""
        return Ended(DeferTask.model_construct(**self.stored["deferral"]), None)

    @property
    def left(self) -> list[str]:
        """The ids of the task's containers on the daemon."""
        return sorted(row.id for row in self.engine.rows({labels.RUN_ID: self._run_id}))


def read(file: Path, run_id: str) -> Any:  # noqa: ANN401 - any JSON
    """Return what was stored for a task in this DAG run."""
    return json.loads(file.read_text("utf-8").replace("UNIQUE", run_id))


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request: pytest.FixtureRequest) -> Path:
    """Return a file of each earlier release."""
    found: Path = request.param
    return found


@pytest.fixture(params=["fake", pytest.param("docker", marks=pytest.mark.docker)])
def upgraded(request: pytest.FixtureRequest, file: Path, app_id: str) -> Iterator[Upgraded]:
    """Return a task after an upgrade, on a fake and then on a real daemon."""
    if request.param == "docker":
        task = Upgraded(request.getfixturevalue("docker_engine"), read(file, app_id), app_id, None)
        yield task
        # An app that the task launched itself has an id of its own.
        for container_id in task.left:
            task.engine.remove(container_id)
        return
    clock = ManualClock()
    engine = FakeEngine(images=[BUSYBOX], programs=PROGRAM, clock=clock, sleep=clock.sleep)
    yield Upgraded(engine, read(file, app_id), app_id, clock)


def test_an_app_that_runs_is_adopted(upgraded: Upgraded) -> None:
    """A retry defers with the app of the earlier try, and collects its result."""
    upgraded.launch()
    supervisor = upgraded.supervisor("launching")

    adopted = supervisor.run(2)

    assert "DeferTask" == adopted.report
    assert sorted(upgraded.ids) == upgraded.left
    assert upgraded.stored["deferral"]["next_kwargs"]["app"] == adopted.message.next_kwargs["app"]

    upgraded.end()
    collected = supervisor.run(2, adopted)

    assert "SucceedTask" == collected.report
    assert [7] == supervisor.xcoms["return_value"]
    # This release keeps a snapshot of the try, too.
    kept = {key: value for key, value in supervisor.store.items() if key != "torchx_app:2"}
    assert upgraded.stored["succeeded"] == kept
    assert [] == upgraded.left


def test_a_deferred_task_is_resumed(upgraded: Upgraded) -> None:
    """The second process of an attempt continues from the deferral of the first."""
    upgraded.launch()
    upgraded.end()
    supervisor = upgraded.supervisor("launching")

    with capture_logs() as lines:
        ended = supervisor.run(1, upgraded.deferred)

    assert "SucceedTask" == ended.report
    assert [7] == supervisor.xcoms["return_value"]
    assert [] == upgraded.left
    if isinstance(upgraded.engine, FakeEngine):
        # The cursor is behind the first line of replica 0.
        said = str([line["event"] for line in lines])
        assert (1, 2) == (said.count("step 1"), said.count("step 2"))


def test_an_app_that_succeeded_is_collected(upgraded: Upgraded) -> None:
    """A retry returns the result of an app that ended when no process was there."""
    upgraded.launch()
    upgraded.end()
    supervisor = upgraded.supervisor("launching")

    ended = supervisor.run(2)

    assert "SucceedTask" == ended.report
    assert [7] == supervisor.xcoms["return_value"]
    assert [] == upgraded.left


def test_a_recorded_result_is_returned(upgraded: Upgraded) -> None:
    """A retry returns the recorded result and launches nothing."""
    supervisor = upgraded.supervisor("succeeded")

    ended = supervisor.run(2)

    assert "SucceedTask" == ended.report
    assert [7] == supervisor.xcoms["return_value"]
    assert [] == upgraded.left


def test_a_changed_task_launches_its_app(upgraded: Upgraded) -> None:
    """The hash of the earlier release tells a changed configuration from the same one."""
    upgraded.launch()

    ended = upgraded.supervisor("launching", env={"SEED": "2"}).run(2)

    assert "DeferTask" == ended.report
    assert 2 == len(upgraded.left)
    assert not {*upgraded.ids} & {*upgraded.left}


@pytest.mark.docker
def test_a_stored_trigger_fires(docker_engine: DockerEngine, file: Path, app_id: str) -> None:
    """A triggerer makes the trigger from what was stored, and it fires the event of today."""
    upgraded = Upgraded(docker_engine, read(file, app_id), app_id, None)
    stored = upgraded.stored["trigger"]
    trigger = TorchXDockerTrigger(**stored["kwargs"])
    trigger.watches = Watches(linger_s=0)
    upgraded.launch()
    upgraded.end()

    async def events() -> list[Any]:
        found = [event.payload async for event in trigger.run()]
        await trigger.cleanup()
        return found

    assert (stored["classpath"], stored["kwargs"]) == trigger.serialize()
    assert [upgraded.stored["event"]] == asyncio.run(events())


class OfOne(Watches):
    """Watches of one daemon, wherever a connection leads."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(linger_s=0)
        self._engine = engine

    @contextmanager
    def on(self, key: Hashable, connect: Callable[[], Engine]) -> Iterator[Watch]:  # noqa: ARG002 - the same signature
        """Use the watch on the daemon."""
        with super().on("the only", lambda: self._engine) as watch:
            yield watch


def queued(stored: Any, clock: ManualClock) -> FakeEngine:  # noqa: ANN401 - any JSON
    """Return a daemon with two GPUs, and the ticket of that time."""
    engine = FakeEngine(
        images=[BUSYBOX],
        programs=replace(PROGRAM, runs_for_s=10),
        gpus=("GPU-a", "GPU-b"),
        clock=clock,
    )
    nothing: dict[str, Any] = {"role": "", "replica": 0, "env": {}, "args": ()}
    engine.create(
        ContainerSpec(
            image=BUSYBOX, entrypoint="true", network="none", **nothing, **stored["ticket"]
        )
    )
    return engine


@pytest.mark.parametrize("file", WAITS, ids=lambda file: file.stem)
def test_a_wait_for_gpus(file: Path) -> None:
    """The trigger claims GPUs with its old ticket, and the task launches with the claim."""
    stored, clock = json.loads(file.read_text("utf-8")), ManualClock()
    engine = queued(stored, clock)
    trigger = TorchXDockerTrigger(**stored["trigger"]["kwargs"])
    trigger.watches = OfOne(engine)
    trigger.evidence = lambda: ("running", None)
    task = OnFakeDaemon(task_id="gang", deferrable=True, **stored["task"])
    task.fake_hook = Hook(engine)
    supervisor = Supervisor(task, run_id=stored["run_id"])

    async def events() -> list[Any]:
        found = [event.payload async for event in trigger.run()]
        await trigger.cleanup()
        return found

    assert (stored["trigger"]["classpath"], stored["trigger"]["kwargs"]) == trigger.serialize()
    assert [stored["event"]] == asyncio.run(events())
    assert ["claim"] == [row.labels[labels.GPU_MARKER] for row in engine.rows({})]

    waited = Ended(DeferTask.model_construct(**stored["deferral"]), None)
    launched = supervisor.run(1, waited, stored["event"])

    assert "DeferTask" == launched.report
    assert ["GPU-a", "GPU-b"] == sorted(row.labels[labels.GPUS] for row in engine.rows({}))

    clock.advance(100)
    assert "SucceedTask" == supervisor.run(1, launched).report
    assert [7] == supervisor.xcoms["return_value"]
    assert () == engine.rows({})
