"""Two clients stop an app at the same time: a program gets one SIGTERM, as it may save after it."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest

from airflow_torchx.core.plan.identity import cancelled_name, saving_name
from airflow_torchx.runtime import attach, launching, lifecycle, waiting
from airflow_torchx.runtime.stall import StallDetector
from airflow_torchx.runtime.stops import Stops
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import planned, states
from tests.unit.runtime.round_clients import APP, CRASH, app, role

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.testing import Verb

    #: What a client does about the app.
    Act = Callable[[Engine], object]

#: It saves after SIGTERM until the test ends it.
SAVES = Program(lines=["up"], runs_for_s=None, on_term="ignore", cpus=0.0)


class Race:
    """Two clients of one daemon, of which the second acts before some request of the first.

    The first one goes on once the second one has sent SIGTERM to each replica that runs. The
    replicas end once the first one waits for them, or has sent SIGTERM again.
    """

    def __init__(self, *, fails: bool = False, **options: Any) -> None:  # noqa: ANN401 - run options
        programs = {"trainer": SAVES, "trainer/0": CRASH if fails else SAVES}
        self.engine = FakeEngine(images=["busybox"], programs=programs, sleep=self._sleep)
        launched = planned(app(role("trainer", 3, retries=1)), stop_grace_s=30, **options)
        launching.launch(self.engine, launched)
        self._running = 2 if fails else 3
        self._looks = 0
        self._second: threading.Thread | None = None
        self._lock = threading.Lock()

    def run(self, first: Act, second: Act, before: Verb) -> None:
        """Let both act; the second one before the first request of this kind."""
        self._before = before
        self._act = second
        first(cast("Engine", self))
        self._end()
        assert self._second is not None
        self._second.join(60)

    def __getattr__(self, verb: str) -> Any:  # noqa: ANN401 - any request of the first client
        call = getattr(self.engine, verb)

        def requested(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - its arguments
            with self._lock:
                self._interrupt(verb)
            return call(*args, **options)

        return requested

    def _interrupt(self, verb: str) -> None:
        if self._second is None and verb == self._before:
            self._second = threading.Thread(target=self._act, args=(self.engine,))
            self._second.start()
            while self._left() and self._second.is_alive():
                time.sleep(0.001)
        elif self._second is not None and verb == "rows":
            self._looks += 1
            if self._looks > 1:
                self._end()

    def _left(self) -> int:
        """Return how many replicas that run have not got a SIGTERM."""
        return self._running - sum(self.engine.sigterms().values())

    def _sleep(self, seconds: float) -> None:
        if 2 in self.engine.sigterms().values():
            self._end()
        time.sleep(seconds)

    def _end(self) -> None:
        for name in self.engine.specs():
            self.engine.end(name, 0)


def sent(race: Race) -> list[int]:
    """Return how often each of the launched replicas got SIGTERM."""
    found = {name.split(".")[0]: count for name, count in race.engine.sigterms().items()}
    return [found[f"app-1-trainer-{index}"] for index in range(3)]


def cancel(engine: Engine) -> None:
    """Cancel the app."""
    lifecycle.cancel(engine, APP)


def own(engine: Engine) -> None:
    """Poll the app once, as its owner."""
    waiting.poll_once(engine, APP)


def test_two_clients_cancel() -> None:
    """Only the one that has renamed a container sends SIGTERM."""
    race = Race()

    race.run(cancel, cancel, "rename")

    assert [1, 1, 1] == sent(race)
    assert ["CANCELLED"] * 3 == states(race.engine)


@pytest.mark.parametrize("before", ["inspect", "rename"])
def test_two_owners_restart(before: Verb) -> None:
    """The replicas that are stopped for a round get one SIGTERM, and the round is made."""
    race = Race(fails=True)

    race.run(own, own, before)

    assert [0, 1, 1] == sent(race)
    assert 6 == len(race.engine.specs())


@pytest.mark.parametrize(("first", "second"), [(cancel, own), (own, cancel)])
def test_one_client_cancels_while_another_restarts(first: Act, second: Act) -> None:
    """A cancel waits for replicas that are stopped for a round, and the other way round."""
    race = Race(fails=True)

    race.run(first, second, "inspect")

    assert [0, 1, 1] == sent(race)
    assert ["CANCELLED"] * 3 == states(race.engine)


def test_two_owners_stop_an_app_that_stalls() -> None:
    """It gets one SIGTERM, and its stacks are written once."""
    race, now = Race(stalled_after_s=60), [0.0]
    detectors = [StallDetector(lambda: now[0]) for _ in range(2)]

    def check(detector: StallDetector, engine: Engine) -> bool:
        return detector.check(engine, attach.look(engine, APP))

    assert not any(check(one, race.engine) for one in detectors)
    now[0] = 100

    race.run(partial(check, detectors[0]), partial(check, detectors[1]), "rename")

    assert [1, 1, 1] == sent(race)
    assert ["FAILED"] * 3 == states(race.engine)
    assert 3 == race.engine.calls.count("execute")


def live(race: Race) -> Any:  # noqa: ANN401 - rows
    """Return the containers that run."""
    return lifecycle.live(lifecycle.rows_of(race.engine, APP))


def never() -> NoReturn:
    """Fail, because a client must not wait for containers."""
    raise AssertionError


def test_the_client_that_lets_replicas_save_is_not_the_one_that_ends_them() -> None:
    """Of two clients, the one that has renamed a container after its save sends SIGTERM."""
    race = Race()
    first, second = (Stops(race.engine, never) for _ in range(2))

    first.rename(live(race), partial(saving_name, cancelled=True))
    second.rename(live(race), cancelled_name)
    first.rename(live(race), cancelled_name)

    assert [False] * 3 == [first.is_own(row) for row in live(race)]
    assert [True] * 3 == [second.is_own(row) for row in live(race)]


@pytest.mark.parametrize(("state", "grace_s"), [("running", 0.0), ("restarting", 0.01)])
def test_containers_of_another_client_that_are_stopped_at_once(state: str, grace_s: float) -> None:
    """A client without a grace period does not wait, nor one for a container that does not run."""
    race = Race()
    Stops(race.engine, never).rename(live(race), cancelled_name)

    Stops(race.engine, never).stop([replace(row, state=state) for row in live(race)], grace_s)

    assert [1, 1, 1] == sent(race)


def test_a_client_that_has_died_before_its_request() -> None:
    """Its containers are stopped after their grace period, and then count as those of this one."""
    race = Race()
    Stops(race.engine, never).rename(live(race), cancelled_name)
    stops, rows = Stops(race.engine, lambda: live(race)), live(race)

    stops.stop(rows, 0.01)

    assert [1, 1, 1] == sent(race)
    assert all(stops.is_own(row) for row in rows)


def test_a_container_that_another_client_has_stopped() -> None:
    """It gets no second SIGTERM."""
    race = Race()
    Stops(race.engine, never).rename(live(race), cancelled_name)

    def look() -> list[Any]:
        race._end()  # noqa: SLF001 - our own
        return []

    Stops(race.engine, look).stop(live(race), 30)

    assert [0, 0, 0] == sent(race)
