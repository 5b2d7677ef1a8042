"""Container events of apps."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import DISCARDED_PREFIX
from tests.contract.bench import wait_for
from tests.contract.script import Script

if TYPE_CHECKING:
    from airflow_torchx.core.engine.containers import ContainerEvent
    from tests.contract.bench import Bench

FOREVER = Script(then_s=None)


class Listener:
    """Collects the events of a test in a thread."""

    def __init__(self, bench: Bench) -> None:
        self.events: list[ContainerEvent] = []
        self._app_id = bench.app_id
        self._stream = bench.engine.events()
        self._thread = threading.Thread(target=self._collect)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._thread.join()

    @property
    def actions(self) -> list[str]:
        """Return the actions so far."""
        return [event.action for event in self.events]

    def wait_for(self, count: int) -> list[ContainerEvent]:
        """Wait for this many events."""
        wait_for(lambda: len(self.events) >= count)
        return self.events

    def _collect(self) -> None:
        # Other tests use the same daemon.
        self.events += (e for e in self._stream if self._app_id in e.app_id)


def test_life_of_a_container(bench: Bench) -> None:
    """Create, start, rename, die and destroy each come once and in order."""
    with Listener(bench) as listener:
        container_id = bench.create(Script(exit_code=3, then_s=0.2))
        bench.engine.rename(container_id, f"{bench.app_id}-renamed")
        bench.engine.start(container_id)
        bench.ended(container_id)
        bench.engine.remove(container_id)
        events = listener.wait_for(5)

    assert ["create", "rename", "start", "die", "destroy"] == listener.actions
    assert {(bench.app_id, container_id)} == {(e.app_id, e.container_id) for e in events}
    assert [None, None, None, 3, None] == [event.exit_code for event in events]
    assert sorted(events, key=lambda event: event.time_ns) == events


def test_stop(bench: Bench) -> None:
    """A stop gives a die event with the exit code of SIGTERM."""
    with Listener(bench) as listener:
        container_id = bench.run_until_it_writes(Script(lines=("ready",), then_s=None))
        bench.engine.stop(container_id, grace_s=5)
        listener.wait_for(3)

    assert [("create", None), ("start", None), ("die", 143)] == [
        (event.action, event.exit_code) for event in listener.events
    ]


def test_removal_of_a_running_container(bench: Bench) -> None:
    """Removing a running container gives a die event before its destroy event."""
    with Listener(bench) as listener:
        bench.engine.remove(bench.run(FOREVER))
        listener.wait_for(4)

    assert ["create", "start", "die", "destroy"] == listener.actions


def test_discard(bench: Bench) -> None:
    """Discarding a container gives a rename event before its destroy event, with its last name."""
    with Listener(bench) as listener:
        container_id = bench.create(FOREVER)
        bench.engine.discard(container_id)
        events = listener.wait_for(3)

    assert ["create", "rename", "destroy"] == listener.actions
    assert [f"{DISCARDED_PREFIX}{container_id}"] * 2 == [event.name for event in events[1:]]


def test_restart_by_the_daemon(bench: Bench) -> None:
    """Each automatic restart gives a start and a die event."""
    spec = replace(bench.spec(Script(exit_code=1)), max_restarts=1)
    with Listener(bench) as listener:
        bench.run(spec)
        listener.wait_for(5)

    assert ["create", "start", "die", "start", "die"] == listener.actions


def test_from_now_on(bench: Bench) -> None:
    """Events before the subscription are not delivered."""
    container_id = bench.run_to_its_end(Script())
    with Listener(bench) as listener:
        bench.engine.remove(container_id)
        listener.wait_for(1)

    assert ["destroy"] == listener.actions


def test_containers_of_no_app(bench: Bench) -> None:
    """Containers without an app give no events."""
    stranger = replace(bench.spec(Script()), labels={"test": bench.app_id})
    with closing(bench.engine.events()) as stream:
        container_id = bench.create(stranger)
        bench.engine.remove(container_id)
        bench.create(FOREVER)
        mine = next(event for event in stream if event.app_id in (bench.app_id, ""))

    assert bench.app_id == mine.app_id


def test_containers_of_all(bench: Bench) -> None:
    """On request, containers without an app give events, too."""
    stranger = replace(bench.spec(Script()), labels={})
    with closing(bench.engine.events(all_containers=True)) as stream:
        container_id = bench.create(stranger)
        bench.engine.remove(container_id)
        found = (event for event in stream if event.container_id == container_id)
        created, destroyed = next(found), next(found)

    assert [("", "create"), ("", "destroy")] == [
        (event.app_id, event.action) for event in (created, destroyed)
    ]


def test_name_and_labels(bench: Bench) -> None:
    """An event has the container's name, and its labels with our prefixes, up to its removal."""
    spec = bench.spec(Script())
    ours = {labels.APP_ID: bench.app_id, labels.APP_NAME: "trainer", labels.GPUS: ""}
    named = replace(spec, labels={**ours, "other": "label"})
    with Listener(bench) as listener:
        bench.engine.remove(bench.create(named))
        bench.create(spec)
        created, destroyed, other = listener.wait_for(3)

    assert [(spec.name, ours)] * 2 == [(one.name, one.labels) for one in (created, destroyed)]
    assert ("trainer", "") == (created.app_name, other.app_name)


def _two_listeners(bench: Bench) -> tuple[Listener, Listener]:
    """Return two that have listened to the lives of three containers."""
    with Listener(bench) as one, Listener(bench) as other:
        for _ in range(3):
            bench.run_to_its_end(Script())
        one.wait_for(9)
        other.wait_for(9)
    return one, other


def test_several_listeners(bench: Bench) -> None:
    """Each listener receives all events of a container in their order."""
    one, other = _two_listeners(bench)

    # On a swarm, each client finds the changes by itself.
    found = [
        sorted((replace(e, time_ns=0) for e in listener.events), key=lambda e: e.container_id)
        for listener in (one, other)
    ]
    assert found[0] == found[1]
    assert {"create": 3, "start": 3, "die": 3} == Counter(one.actions)


def test_the_order_of_several_containers(bench: Bench) -> None:
    """Each listener receives the events of all containers in one order."""
    one, other = _two_listeners(bench)

    assert one.events == other.events


def test_close_before_reading(bench: Bench) -> None:
    """A closed stream yields nothing, and can be closed again."""
    stream = bench.engine.events()
    stream.close()
    stream.close()

    assert [] == list(stream)
