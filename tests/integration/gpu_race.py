"""Processes that launch apps on GPUs of one daemon, of which some are killed or stop for a while.

Usage: python -m tests.integration.gpu_race RACE, a `Race` as JSON.

All processes and all replicas append to one file what they do, and each line at once. So the lines
have one order: if one says that something is done, and a later one that something begins, then that
is the order in which it happened.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.gpu import ledger
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.docker_engine.connection import open_client, resolve
from airflow_torchx.errors import AirflowTorchXError, LaunchError
from airflow_torchx.runtime import gpu_allocator
from airflow_torchx.runtime.gpus import lock, queue
from airflow_torchx.runtime.watch import gpu_events
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppState
from tests.integration.gpu_launches import Launch, Race, drawn
from tests.integration.gpu_wire import Journal, Wire

if TYPE_CHECKING:
    from collections.abc import Sequence

PROCESSES: Final = 8


def launch(race: Race, one: Launch) -> None:
    """Launch an app as its own process does."""
    journal = Journal(race.folder, one.who)
    endpoint = resolve(Endpoint(url=race.url), {})
    client = open_client(endpoint)
    inner = client.get_adapter(client.base_url)
    client.mount(client.base_url, Wire(inner, journal, one.fault))
    with DockerEngine(client, endpoint) as engine:
        scheduler = DockerScheduler("race", engine)
        if not is_adopted(scheduler, one, journal):
            journal.say("launch", count=one.gpus)
            submit(scheduler, race, one, journal)


def is_adopted(scheduler: DockerScheduler, one: Launch, journal: Journal) -> bool:
    """Return whether an earlier try has launched the app, as a retry in Airflow does.

    It removes what other tries have left.
    """
    for number in range(1, one.try_number):
        earlier = replace(one, try_number=number).attempt.app_id
        found = scheduler.describe(earlier)
        if found and found.state in (AppState.RUNNING, AppState.SUCCEEDED):
            journal.say("adopt", text=earlier)
            return True
        scheduler.delete(earlier)
    return False


def submit(scheduler: DockerScheduler, race: Race, one: Launch, journal: Journal) -> None:
    """Launch an app, and again if the daemon refuses."""
    while True:
        context = None
        if one.is_task:
            context = scheduler.new_context(one.attempt.app_id, labels=one.attempt.labels)
        options = {"network": "host", "stop_grace_s": 60}
        info = scheduler.prepare(one.app(race.folder), options, context)
        try:
            # Without a helper process, as on a host that is lost.
            scheduler.launch(info, has_reaper=True)
        except AirflowTorchXError as error:
            journal.say("fail", text=repr(error))
            if one.is_superseded:
                return
            # A process that stops for too long finds that others have removed its replicas.
            if not isinstance(error, LaunchError):
                raise
        else:
            journal.say("launched", text=info.request.app_id)
            return


class Processes:
    """Launches apps, in up to eight processes at a time."""

    def __init__(self, race: Race) -> None:
        self._race = race
        self._todo = deque[Launch]()
        self._running: dict[int, Launch] = {}
        #: When those that have stopped go on.
        self._continue_s: dict[int, float] = {}
        self._failed = 0

    def run(self, launches: Sequence[Launch]) -> int:
        """Launch apps and return how many processes failed."""
        self._todo.extend(launches)
        while self._todo or self._running:
            while self._todo and len(self._running) < PROCESSES:
                one = self._todo.popleft()
                self._running[self._forked(one)] = one
            for process, at_s in list(self._continue_s.items()):
                if at_s < time.monotonic():
                    del self._continue_s[process]
                    os.kill(process, signal.SIGCONT)
            process, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            if process:
                self._take(process, status)
            else:
                time.sleep(0.005)
        return self._failed

    def _forked(self, one: Launch) -> int:
        if process := os.fork():
            return process
        code = 1
        try:
            launch(self._race, one)
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)

    def _take(self, process: int, status: int) -> None:
        """Note that a process has stopped or ended."""
        one = self._running[process]
        if os.WIFSTOPPED(status):
            assert one.fault is not None
            self._continue_s[process] = time.monotonic() + one.fault.stops_s
            if one.is_doubled:
                self._try_again(one)
            return
        del self._running[process]
        if os.WIFSIGNALED(status):
            self._try_again(one)
        else:
            self._failed += status != 0

    def _try_again(self, one: Launch) -> None:
        if one.is_task:
            self._todo.appendleft(replace(one, try_number=one.try_number + 1, fault=None))


def hasten(race: Race) -> None:
    """Set how long launches respect what others have left, and pause between two looks."""
    lock_s, ticket_s, claim_s, replica_s = race.timeout_s
    for module, name, value in (
        (lock, "TIMEOUT_S", lock_s),
        (gpu_allocator, "PRESENT", queue.Timeouts(ticket=ticket_s, claim=claim_s)),
        (ledger, "UNSTARTED_S", replica_s),
        (gpu_events, "_IDLE_S", race.idle_s),
    ):
        assert hasattr(module, name)
        setattr(module, name, value)


def main(race: Race) -> int:
    """Run a race, and then launch one more app, which needs all GPUs."""
    hasten(race)
    processes = Processes(race)
    last = Launch(number=race.launches, shape=[(1, 4)], use_s=0.1)
    return processes.run(drawn(race)) + processes.run([last])


if __name__ == "__main__":
    sys.exit(main(Race(**json.loads(sys.argv[1]))))
