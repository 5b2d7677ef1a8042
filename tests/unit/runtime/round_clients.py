"""Clients that restart one app on a fake daemon, and that a test kills or interleaves."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, Final, cast

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import LogQuery
from airflow_torchx.core.logs.lines import LineReader
from airflow_torchx.core.state.rounds import replica_key, round_of
from airflow_torchx.runtime import waiting
from airflow_torchx.specs import AppDef, RetryPolicy, Role
from airflow_torchx.testing import FakeEngine, ManualClock, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerRow, ContainerSpec
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.specs import DescribeAppResponse
    from airflow_torchx.testing import Verb

APP: Final = "app-1"
FOREVER: Final = Program(lines=["up"], runs_for_s=None)
CRASH: Final = Program(lines=["up"], exit_code=1)
DONE: Final = Program(lines=["up"])


class Killed(BaseException):
    """The client was killed."""


class Daemon:
    """A fake daemon whose containers behave by role, index and round.

    ``behaviour`` maps a replica, like ``trainer/1``, to its programs, one for each round; further
    rounds repeat the last. Other replicas run until they are stopped, and succeed in the last round
    of ``rounds``, if it is given.
    """

    def __init__(self, behaviour: Mapping[str, Sequence[Program]], last: int | None = None) -> None:
        self.clock = ManualClock()
        self._behaviour = behaviour
        self._last = last
        self.engine = FakeEngine(
            images=["busybox"],
            programs=self._program,
            clock=self.clock,
            sleep=self.clock.sleep,
            before=self._check,
        )
        self._checking = threading.Lock()

    def _program(self, spec: ContainerSpec) -> Program:
        number = int(spec.labels.get(labels.ROUND, "0"))
        programs = self._behaviour.get(f"{spec.role}/{spec.replica}")
        if programs:
            return programs[min(number, len(programs) - 1)]
        return DONE if number == self._last else FOREVER

    def _check(self, _verb: Verb, _name: str) -> None:
        """No role may have two rounds that run."""
        if self._checking.acquire(blocking=False):
            try:
                running: dict[str, set[int]] = {}
                for row in self.engine.rows({labels.APP_ID: APP}):
                    if row.state == "running":
                        running.setdefault(replica_key(row)[0], set()).add(round_of(row))
                assert all(len(rounds) == 1 for rounds in running.values()), running
            finally:
                self._checking.release()

    def rows(self) -> list[ContainerRow]:
        """Return the containers of the app, by round, role and index."""
        rows = self.engine.rows({labels.APP_ID: APP})
        return sorted(rows, key=lambda row: (round_of(row), replica_key(row)))

    def rounds(self) -> list[str]:
        """Return the replicas of each round that ran, like ``0: trainer/0 trainer/1``."""
        found: dict[int, list[str]] = {}
        for row in self.rows():
            if self.log(row):
                role, index = replica_key(row)
                found.setdefault(round_of(row), []).append(f"{role}/{index}")
        return [f"{number}: {' '.join(names)}" for number, names in found.items()]

    def log(self, row: ContainerRow) -> list[str]:
        """Return the lines of a container."""
        reader = LineReader(timestamps=False, after=None, start_ns=0)
        chunks = self.engine.logs(row.id, LogQuery())
        return [line.text for chunk in chunks for line in reader.feed(chunk)]

    def restarts(self) -> dict[str, int]:
        """Return the restarts that the newest containers count."""
        texts = [row.labels.get(labels.RESTARTS, "{}") for row in self.rows()]
        return cast("dict[str, int]", json.loads(texts[-1]))

    def assert_each_ran_once(self) -> None:
        """Fail if a container was started twice."""
        assert [] == [row.name for row in self.rows() if len(self.log(row)) > 1]


class Client:
    """An engine that counts its calls, and does something before some of them.

    Its calls come one by one, from whatever thread.
    """

    def __init__(self, engine: Engine) -> None:
        self.calls = 0
        self.at: dict[int, Callable[[], object]] = {}
        self._engine = engine
        self._one_by_one = threading.RLock()

    def __getattr__(self, verb: str) -> Any:  # noqa: ANN401 - any call of an engine
        call = getattr(self._engine, verb)

        def counted(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - its arguments
            with self._one_by_one:
                self.calls += 1
                self.at.get(self.calls, lambda: None)()
                return call(*args, **options)

        return counted

    def die_at(self, call: int) -> None:
        """Kill the client before this call; it makes none after it."""

        def die() -> None:
            self.at = dict.fromkeys(range(call, call + 1000), die)
            raise Killed

        self.at[call] = die

    @property
    def as_engine(self) -> Engine:
        """The client as an engine."""
        return cast("Engine", self)


def own(
    engine: Engine, clock: ManualClock, looks: int = 60, secrets: frozenset[str] | None = None
) -> DescribeAppResponse | None:
    """Look at the app as its owner does, until it has ended; None if it takes too long."""
    for _ in range(looks):
        if (ended := waiting.poll_once(engine, APP, secrets=secrets)) is not None:
            return ended
        clock.advance(1)
    return None


def app(*roles: Role) -> AppDef:
    """Return an app."""
    return AppDef("app", list(roles))


def role(
    name: str = "trainer",
    replicas: int = 2,
    retries: int = 0,
    policy: RetryPolicy = RetryPolicy.APPLICATION,
) -> Role:
    """Return a role."""
    return Role(
        name,
        "busybox",
        entrypoint="run",
        num_replicas=replicas,
        max_retries=retries,
        retry_policy=policy,
    )
