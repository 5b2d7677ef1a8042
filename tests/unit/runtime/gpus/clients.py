"""Clients that take GPUs of one fake daemon, and whose requests a test interleaves."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerSpec
from airflow_torchx.core.gpu.demand import GpuDemand
from airflow_torchx.core.gpu.turn import Blocked
from airflow_torchx.errors import EngineError, EngineUnreachableError
from airflow_torchx.runtime.gpus.queue import Claim, GpuQueue, TicketLost
from airflow_torchx.testing import FakeEngine, ManualClock, Program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.testing import Verb

IMAGE: Final = "busybox"


def daemon(gpus: int | Sequence[str] = 2) -> tuple[FakeEngine, ManualClock]:
    """Return a daemon with GPUs whose containers run without end, and its clock."""
    clock = ManualClock()
    forever = Program(runs_for_s=None)
    engine = FakeEngine(images=[IMAGE], gpus=gpus, programs=forever, clock=clock, sleep=clock.sleep)
    return engine, clock


def demand(key: str, count: int = 1, listed: Sequence[str] = ("GPU-0", "GPU-1")) -> GpuDemand:
    """Return a demand for GPUs."""
    own = {labels.GPU_APP: key, labels.LAUNCH_ID: f"launch of {key}"}
    return GpuDemand(key=key, count=count, listed=tuple(listed), image=IMAGE, labels=own)


def replica(name: str, ids: Sequence[str]) -> ContainerSpec:
    """Return a container that holds GPUs, as a replica of an app does."""
    return ContainerSpec(
        role="r",
        replica=0,
        name=name,
        image=IMAGE,
        entrypoint="run",
        args=(),
        env={},
        labels={labels.GPUS: ",".join(ids), labels.APP_ID: name},
        network="none",
    )


def owners(engine: FakeEngine) -> list[str]:
    """Return the GPUs of all containers that run, one by one."""
    return [
        gpu
        for row in engine.rows({labels.GPUS: None})
        if row.state == "running"
        for gpu in row.labels[labels.GPUS].split(",")
    ]


class Killed(BaseException):
    """The client was killed: it makes no further request."""


class Client:
    """A client that launches an app with GPUs, runs it, and removes it.

    A trigger only claims GPUs for a task that has left a ticket.

    Its thread stops before each request to the daemon, until `step` lets it make that request.
    """

    def __init__(self, crowd: Crowd, name: str, wanted: GpuDemand, *, is_trigger: bool) -> None:
        self.name = name
        self.wanted = wanted
        self.is_done = self.is_killed = False
        #: Verb and container of the request that it makes next; empty while it rests.
        self.next_request = ""
        #: Whether the answer of its next request is lost.
        self.loses_answer = False
        self.error: BaseException | None = None
        self._crowd = crowd
        self._is_trigger = is_trigger
        self._turn = threading.Semaphore(0)
        self._paused = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        crowd.by_thread[self._thread] = self
        self._thread.start()
        self._paused.acquire()

    def step(self) -> None:
        """Make one request, and come to the next one."""
        if not self.is_done:
            self._turn.release()
            self._paused.acquire()
            if self.error is not None:
                raise self.error

    def kill(self) -> None:
        """End it before its next request."""
        self.is_killed = True
        while not self.is_done:
            self.step()

    def rest(self) -> None:
        """Wait for the turn without a request."""
        self.next_request = ""
        self.pause()

    def pause(self) -> None:
        """Wait for the turn; called in its thread."""
        if not self.is_killed:
            self._paused.release()
            self._turn.acquire()
        if self.is_killed:
            raise Killed

    def _run(self) -> None:
        try:
            self.pause()
            if self._is_trigger:
                self._claim(self._queue())
            else:
                self._launch_and_remove()
        except (Killed, TicketLost):
            pass
        except BaseException as error:  # noqa: BLE001 - raised in the test
            self.error = error
        self.is_done = True
        self._paused.release()

    def _queue(self) -> GpuQueue:
        crowd = self._crowd
        return GpuQueue(crowd.engine, self.wanted, clock=crowd.clock, sleep=lambda _: self.rest())

    def _launch_and_remove(self) -> None:
        while not self._is_launched():
            pass
        while self._crowd.apps_run:
            self.rest()
        while not self._is_removed():
            pass

    def _is_launched(self) -> bool:
        """Launch as `runtime.launching` does; return False after an undo."""
        engine, queue = self._crowd.engine, self._queue()
        given_up: GpuQueue | None = None
        try:
            claim = self._claim(queue)
            # One replica for each GPU.
            ids = [engine.create(replica(f"{self.name}-{one}", [one])) for one in claim.ids]
            if queue.commit(claim):
                for one in ids:
                    engine.start(one)
                return True
        except EngineError:
            given_up = queue
        while not self._is_removed(given_up):
            pass
        return False

    def _claim(self, queue: GpuQueue) -> Claim:
        """Wait for GPUs, also through an outage of the daemon."""
        while True:
            with contextlib.suppress(EngineUnreachableError):
                step = queue.attempt(may_join=not self._is_trigger)
                if not isinstance(step, Blocked):
                    return step
            self.rest()

    def _is_removed(self, given_up: GpuQueue | None = None) -> bool:
        """Remove its containers, and return whether the daemon answered."""
        try:
            if given_up is not None:
                given_up.release()
            for row in self._crowd.engine.rows({labels.APP_ID: None}):
                if row.name.startswith(f"{self.name}-"):
                    self._crowd.engine.remove(row.id)
        except EngineUnreachableError:
            return False
        return True


class Crowd:
    """Several clients of one daemon."""

    def __init__(self, gpus: int) -> None:
        self.engine, self.clock = daemon(gpus)
        self.engine.before = self._pause
        self.clients: list[Client] = []
        self.by_thread: dict[threading.Thread, Client] = {}
        #: Whether an app that was launched goes on.
        self.apps_run = True

    def add(self, name: str, key: str, count: int, *, is_trigger: bool = False) -> Client:
        """Start a client; the tries of one task have one key."""
        wanted = demand(key, count, self.engine.engine_info.gpu_ids)
        client = Client(self, name, wanted, is_trigger=is_trigger)
        self.clients.append(client)
        return client

    def step(self, client: Client) -> None:
        """Let a client make a request; no GPU may have two owners after that."""
        has_started = client.next_request.startswith("start")
        client.step()
        if has_started:
            taken = owners(self.engine)
            assert sorted(set(taken)) == sorted(taken)

    def finish(self) -> None:
        """Let all clients and their apps end; each client has time for what it began."""
        self.apps_run = False
        for _ in range(60):
            for client in self.clients:
                self._finish_turn(client)
            self._end_apps_of_the_killed()
            if all(client.is_done for client in self.clients):
                return
            self.clock.advance(4)
        waiting = [client.name for client in self.clients if not client.is_done]
        raise AssertionError(f"these clients did not end: {waiting}")

    def _finish_turn(self, client: Client) -> None:
        made: list[str] = []
        while len(made) < 100:
            made.append(client.next_request)
            self.step(client)
            if client.is_done or not client.next_request:
                return
        raise AssertionError(f"{client.name} makes requests without end: {made}")

    def _end_apps_of_the_killed(self) -> None:
        killed = tuple(f"{client.name}-" for client in self.clients if client.is_killed)
        for row in self.engine.rows({labels.APP_ID: None}):
            if row.state == "running" and row.name.startswith(killed):
                self.engine.remove(row.id)

    def close(self) -> None:
        """End the threads of all clients."""
        for client in self.clients:
            client.error = None
            client.kill()

    def _pause(self, verb: Verb, name: str) -> None:
        client = self.by_thread.get(threading.current_thread())
        if client is None:
            return
        client.next_request = f"{verb} {name}"
        client.pause()
        if client.loses_answer:
            client.loses_answer = False
            lost = EngineUnreachableError("the answer was lost.", fix="Try again.")
            self.engine.fail_next(verb, lost, after=True)
