"""Tasks that wait for GPUs in a whole Airflow, while processes are killed and users act.

An app that the command line has launched holds the two GPUs of a daemon. Each task waits for one of
them, in its worker or in the triggerer, until something happens to it. Then that app ends, and the
tasks that still wait run.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from airflow_torchx.core.engine import labels
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, BindMount, Resource, Role
from tests.airflow.processes import is_alive, kill, parent_of, until
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.stack import Stack, Task

GPUS: Final = ("GPU-aaaa", "GPU-bbbb")
# What should be gone is looked for this long before it counts as left.
_PATIENCE_S: Final = 60.0
# Between two questions to the API server.
_ASKING_S: Final = 1.0
_TRIGGERER: Final = text(
    "SELECT t.triggerer_id FROM trigger t JOIN task_instance ti ON ti.trigger_id = t.id"
    " WHERE ti.run_id = :run_id"
)


class Mode(Enum):
    """Where a task waits."""

    SYNC = "sync"
    DEFERRABLE = "deferrable"


class Blow(Enum):
    """What happens to a task that waits."""

    TASK = "its process is killed"
    WORKER = "its worker is killed, and its process lives on"
    SHUTDOWN = "its worker shuts down"
    TRIGGERER = "the triggerer is killed"
    CLEAR = "a user clears it"
    FAIL = "a user marks it as failed"
    SUCCEED = "a user marks it as successful"
    LATE = "its execution_timeout is over"
    BUSY = "its gpu_wait_timeout_s is over"


#: The DAGs whose tasks these happen to have names that end so.
ALARMS: Final = {Blow.LATE: "_late", Blow.BUSY: "_busy"}


@dataclass(frozen=True)
class GpuCase:
    """A blow to a task that waits; `make test` plays those that are selected."""

    mode: Mode
    blow: Blow
    is_selected: bool = field(compare=False)

    def __str__(self) -> str:
        return f"{self.mode.value}-{self.blow.name.lower()}"

    @property
    def dag_id(self) -> str:
        """The DAG of its run."""
        return f"gpus_{self.mode.value}{ALARMS.get(self.blow, '')}"


#: A deferred task has no process, and one that waits in its worker has no trigger.
GPU_CASES: Final = (
    GpuCase(Mode.SYNC, Blow.LATE, is_selected=False),
    GpuCase(Mode.DEFERRABLE, Blow.LATE, is_selected=True),
    GpuCase(Mode.SYNC, Blow.BUSY, is_selected=True),
    GpuCase(Mode.DEFERRABLE, Blow.BUSY, is_selected=False),
    GpuCase(Mode.SYNC, Blow.TASK, is_selected=True),
    GpuCase(Mode.SYNC, Blow.WORKER, is_selected=True),
    GpuCase(Mode.SYNC, Blow.SHUTDOWN, is_selected=True),
    GpuCase(Mode.DEFERRABLE, Blow.TRIGGERER, is_selected=True),
    GpuCase(Mode.SYNC, Blow.CLEAR, is_selected=False),
    GpuCase(Mode.DEFERRABLE, Blow.CLEAR, is_selected=True),
    GpuCase(Mode.SYNC, Blow.FAIL, is_selected=True),
    GpuCase(Mode.DEFERRABLE, Blow.FAIL, is_selected=False),
    GpuCase(Mode.SYNC, Blow.SUCCEED, is_selected=False),
    GpuCase(Mode.DEFERRABLE, Blow.SUCCEED, is_selected=True),
)


@dataclass(frozen=True)
class Waited:
    """What is left to see of a task when all is over.

    Args:
        tries: states of its tries, in their order, without those that Airflow failed by a race of
            its own.
        starts: how many apps of it started.
        places: ``kept`` or ``new`` for each place that it had in the queue after the blow.
        record: the logs of the run.
    """

    tries: tuple[str, ...]
    starts: int
    places: tuple[str, ...]
    record: str = field(default="", compare=False, repr=False)


class GpuScene:
    """Plays cases at the same time.

    Args:
        stack: a whole Airflow with a connection ``gpu_host``.
        engine: a connection to the same daemon, which has the GPUs `GPUS`.
        folder: for what the apps note.
    """

    def __init__(self, stack: Stack, engine: DockerEngine, folder: Path) -> None:
        self._stack = stack
        self._engine = engine
        self._folder = folder
        self._pids: list[int] = []

    def play(self, cases: Sequence[GpuCase]) -> dict[GpuCase, Waited]:
        """Play cases, and return what is left to see of each."""
        DockerScheduler("shell", self._engine).submit(self._holder())
        waiters = [Waiter(one, self._trigger(one), self._engine) for one in cases]
        for waiter in waiters:
            until(waiter.has_come_to_wait, f"{waiter.case}: its wait", tick_s=_ASKING_S)
        for waiter in waiters:
            waiter.strike()
        if any(case.blow is Blow.TRIGGERER for case in cases):
            for triggerer in self._stack.triggerers:
                triggerer.kill()
                triggerer.start()
        for waiter in waiters:
            until(waiter.is_through, f"{waiter.case}: what follows", tick_s=_ASKING_S)
        places = [waiter.places() for waiter in waiters]
        (self._folder / "finish").touch()
        for waiter in waiters:
            waiter.task.wait_for("success", "failed")
        self._pids = [pid for waiter in waiters if (pid := waiter.ended)]
        return {
            waiter.case: waiter.outcome(self._starts(waiter.task.run_id), found)
            for waiter, found in zip(waiters, places, strict=True)
        }

    def wrong(self) -> list[str]:
        """Return what must never be: two apps with one GPU, and what is left."""
        with suppress(AssertionError):
            until(lambda: not self._remains(), "an empty daemon", patience_s=_PATIENCE_S)
        return [
            f"{line}: its GPU had another app" for line in self._read("twice")
        ] + self._remains()

    def _remains(self) -> list[str]:
        rows = self._engine.rows({labels.DAG_ID: None}) + self._engine.rows(
            {labels.GPU_MARKER: None}
        )
        left = [f"{row.name} is left" for row in rows]
        return left + [f"process {pid} lives" for pid in self._pids if is_alive(pid)]

    def _trigger(self, case: GpuCase) -> Task:
        return self._stack.trigger(case.dag_id, str(case), {"folder": str(self._folder)})

    def _starts(self, run_id: str) -> int:
        """Return how many apps of a DAG run have started."""
        return sum(line.split()[0] == run_id for line in self._read("starts"))

    def _read(self, name: str) -> list[str]:
        file = self._folder / name
        return file.read_text().splitlines() if file.exists() else []

    def _holder(self) -> AppDef:
        role = Role(
            name="main",
            image=BUSYBOX,
            entrypoint="sh",
            args=["-c", "until [ -e /ran/finish ]; do sleep 0.2; done"],
            num_replicas=len(GPUS),
            mounts=[BindMount(str(self._folder), "/ran")],
            resource=Resource(cpu=0, gpu=1, memMB=64),
        )
        return AppDef(name="holder", roles=[role])


class Waiter:
    """A task that waits for a GPU.

    Args:
        case: what happens to it.
        task: the task.
        engine: a connection to its daemon.
    """

    def __init__(self, case: GpuCase, task: Task, engine: DockerEngine) -> None:
        self.case = case
        self.task = task
        self._engine = engine
        self._before: str | None = None
        self._triggerer: object = None
        #: The process that the blow ends.
        self.ended: int | None = None

    def places(self) -> tuple[str, ...]:
        """Return whether each place of it in the queue is the one that it had before the blow."""
        return tuple("kept" if one == self._before else "new" for one in self._tickets())

    def _tickets(self) -> list[str]:
        wanted = {labels.RUN_ID: self.task.run_id, labels.GPU_MARKER: "ticket"}
        return [row.id for row in self._engine.rows(wanted)]

    def has_come_to_wait(self) -> bool:
        """Tell whether it waits, and remember where; an alarm may be over before that is seen."""
        self._before = next(iter(self._tickets()), self._before)
        self._triggerer = self._its_triggerer()
        is_over = self.case.blow in ALARMS and self.task.state() == "failed"
        return is_over or (self._before is not None and self._waits())

    def strike(self) -> None:
        """Do to it what its case says, unless that hits all."""
        task, blow = self.task, self.case.blow
        if blow in {Blow.TASK, Blow.WORKER, Blow.SHUTDOWN}:
            self.ended = task.now().pid
            assert self.ended is not None
            if blow is Blow.SHUTDOWN:
                os.kill(parent_of(self.ended), signal.SIGTERM)
            else:
                kill(self.ended if blow is Blow.TASK else parent_of(self.ended))
        elif blow is Blow.CLEAR:
            task.clear()
        elif blow in {Blow.FAIL, Blow.SUCCEED}:
            task.mark("failed" if blow is Blow.FAIL else "success")
        if blow in {Blow.CLEAR, Blow.FAIL, Blow.SUCCEED}:
            # A triggerer that is killed next ends no triggers.
            until(lambda: "kept" not in self.places(), f"{self.case}: its place is removed")

    def is_through(self) -> bool:
        """Tell whether it waits again after the blow, or has ended."""
        now, places = self.task.now(), self.places()
        match self.case.blow:
            case Blow.TASK | Blow.WORKER | Blow.CLEAR:
                return now.try_number > 1 and self._waits()
            case Blow.SHUTDOWN:
                return now.state == "deferred"
            case Blow.TRIGGERER:
                return self._its_triggerer() not in {None, self._triggerer}
            case _:
                return not places and now.state in {"failed", "success"}

    def outcome(self, starts: int, places: tuple[str, ...]) -> Waited:
        """Return what is left to see; ``places`` are those after the blow."""
        raced = self.task.raced(self.ended)
        tries = [one for one in self.task.tries() if int(one["try_number"]) not in raced]
        return Waited(
            tries=tuple(str(one["state"]) for one in tries),
            starts=starts,
            places=places,
            record=self.task.record(),
        )

    def _waits(self) -> bool:
        """Tell whether the log of the last try says for what it waits, in the mode of the case."""
        log = self.task.log(max(1, self.task.now().try_number))
        said = [one for event in log if (one := str(event["event"])).startswith("waiting for")]
        # The process of a deferrable task says so, and then its trigger.
        return len(said) >= (2 if self.case.mode is Mode.DEFERRABLE else 1)

    def _its_triggerer(self) -> object:
        ids = self.task.stack.select(_TRIGGERER, run_id=self.task.run_id)
        return ids[0][0] if ids else None
