"""A bench for the contract tests of an engine, fake or real."""

from __future__ import annotations

import contextlib
import itertools
import struct
import time
from typing import TYPE_CHECKING

import docker

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import DEFAULT_STOP_GRACE_S, ContainerSpec, LogQuery
from airflow_torchx.core.swarm.changes import STARTING
from airflow_torchx.testing import FakeEngine, Program
from tests.airflow.processes import PATIENCE_S
from tests.contract.script import Script, read_marker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_torchx.core.engine.containers import ContainerDetail, ContainerRow
    from airflow_torchx.core.engine.protocol import Engine

_TICK_S = 0.02


class Bench:
    """Runs scripts on an engine, in containers that are removed when the test ends.

    Args:
        network: of the containers.
        stop_grace_s: of the containers, where an engine takes that from their launch.
    """

    def __init__(
        self,
        engine: Engine,
        app_id: str,
        image: str,
        network: str = "none",
        stop_grace_s: float = DEFAULT_STOP_GRACE_S,
    ) -> None:
        self.engine = engine
        self.app_id = app_id
        self.image = image
        self._network = network
        self._stop_grace_s = stop_grace_s
        self._numbers = itertools.count()
        self._programs: dict[str, Program] = {}
        if isinstance(engine, FakeEngine):
            engine.programs = lambda spec: self._programs[spec.name.removesuffix("-r1")]

    def spec(self, script: Script) -> ContainerSpec:
        """Return the spec of a container that runs a script without a network."""
        number = next(self._numbers)
        name = f"{self.app_id}-{number}"
        self._programs[name] = script.program()
        return ContainerSpec(
            role="main",
            replica=number,
            name=name,
            image=self.image,
            entrypoint=script.entrypoint,
            args=("-c", script.command()),
            env={},
            labels={labels.APP_ID: self.app_id, labels.REPLICA_ID: str(number)},
            network=self._network,
            stop_grace_s=self._stop_grace_s,
        )

    def create(self, what: Script | ContainerSpec) -> str:
        """Create a container."""
        return self.engine.create(self.spec(what) if isinstance(what, Script) else what)

    def clone(
        self,
        container_id: str,
        labels: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Clone a container; the clone's name is the old one and ``-r1``."""
        name = f"{self.row(container_id).name}-r1"
        return self.engine.clone(container_id, name=name, labels=labels or {}, env=env or {})

    def run(self, what: Script | ContainerSpec) -> str:
        """Create and start a container."""
        container_id = self.create(what)
        self.engine.start(container_id)
        # A manager starts a replica later.
        wait_for(lambda: self.detail(container_id).state not in STARTING)
        return container_id

    def run_until_it_writes(self, what: Script | ContainerSpec) -> str:
        """Run a container and wait for its first line, after which it reacts to signals."""
        container_id = self.run(what)
        stream = self.engine.logs(container_id, LogQuery(follow=True))
        next(iter(stream))
        stream.close()
        return container_id

    def run_to_its_end(self, what: Script | ContainerSpec) -> str:
        """Run a container until it exits."""
        container_id = self.run(what)
        self.ended(container_id)
        return container_id

    def run_line_by_line(self, script: Script) -> str:
        """Run a script that awaits reading until it exits."""
        container_id = self.run(script)
        for lines in range(1, len(script.lines)):
            self.read(container_id, lines)
        self.ended(container_id)
        return container_id

    def read(self, container_id: str, lines: int) -> None:
        """Wait until a log has so many lines, and let the script write the next one."""
        wait_for(lambda: len(self.log(container_id)) >= lines)
        if not isinstance(self.engine, FakeEngine):
            touch = ["touch", read_marker(lines)]
            done = self.engine.execute(container_id, touch, timeout_s=PATIENCE_S, max_bytes=100)
            assert 0 == done.exit_code

    def row(self, container_id: str) -> ContainerRow:
        """Return the row of a container."""
        found = [row for row in self.rows() if row.id == container_id]
        assert len(found) == 1
        return found[0]

    def rows(self) -> tuple[ContainerRow, ...]:
        """Return the rows of all containers of this test."""
        return self.engine.rows({labels.APP_ID: self.app_id})

    def labels(self, container_id: str) -> dict[str, str]:
        """Return the labels of a container, without the one that shows that it is on a swarm."""
        found = self.row(container_id).labels
        return {key: found[key] for key in found if key != labels.SWARM_NAME}

    def detail(self, container_id: str) -> ContainerDetail:
        """Return the detail of an existing container."""
        found = self.engine.inspect(container_id)
        assert found is not None
        return found

    def ended(self, container_id: str) -> ContainerDetail:
        """Wait until a container exits, and return its detail."""
        wait_for(lambda: self.detail(container_id).state == "exited")
        return self.detail(container_id)

    def fail(self, container_id: str) -> None:
        """Let a program that handles SIGTERM end with 143; no client asks the daemon for that."""
        if isinstance(self.engine, FakeEngine):
            self.engine.end(container_id, 143)
        else:
            self.engine.execute(container_id, ["kill", "1"], timeout_s=PATIENCE_S, max_bytes=100)

    def wait_for_oom(self, container_id: str) -> None:
        """Wait until the daemon knows that the container exceeded its memory limit.

        It says so in an event, and in the container's state only after the exit.
        """
        if isinstance(self.engine, FakeEngine):
            return
        about = {"container": container_id, "event": "oom"}
        until = int(time.time() + PATIENCE_S)
        with contextlib.closing(docker.from_env()) as client:
            assert any(client.events(since=0, until=until, filters=about))

    def log(self, container_id: str, query: LogQuery | None = None) -> list[tuple[str, bytes]]:
        """Return the messages of a container's log as pairs of stream and bytes."""
        return unframed(self.engine.logs(container_id, query or LogQuery()))


def wait_for(happened: Callable[[], bool]) -> None:
    """Wait until something happened, with a time limit."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(_TICK_S)


def unframed(chunks: Iterable[bytes]) -> list[tuple[str, bytes]]:
    """Return the frames of a multiplexed stream; an incomplete frame is an error."""
    data, found = b"".join(chunks), []
    while data:
        number, length = struct.unpack_from(">BxxxI", data)
        message, data = data[8 : 8 + length], data[8 + length :]
        assert length == len(message)
        found.append(({1: "stdout", 2: "stderr"}[number], message))
    return found
