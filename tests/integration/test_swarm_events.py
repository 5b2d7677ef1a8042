"""The events of a swarm, which a manager's events of services and nodes wake."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.engine import labels
from airflow_torchx.swarm_engine import SwarmEngine, events
from tests.integration.stub import Request, Stub, chunked, json_answer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def _task(state: str) -> dict[str, Any]:
    own = {labels.APP_ID: "app", labels.REPLICA_ID: "0", labels.SWARM_NAME: "app-trainer-0"}
    ended = {"ContainerID": "c", "ExitCode": 3} if state == "failed" else {"ContainerID": "c"}
    return {
        "ID": "t1",
        "ServiceID": "s1",
        "NodeID": "n1",
        "CreatedAt": "2026-01-01T00:00:00Z",
        "Status": {"State": state, "ContainerStatus": ended},
        "DesiredState": "running" if state == "running" else "shutdown",
        "Spec": {"ContainerSpec": {"Labels": own}},
    }


class Manager:
    """A manager of one replica, which fails once a watch has begun; an event follows."""

    def __init__(self, event: dict[str, Any]) -> None:
        self._event = json.dumps(event).encode() + b"\n"
        self._opened, self._seen, self._failed, self._left = (threading.Event() for _ in range(4))

    def __call__(self, request: Request) -> Iterable[bytes]:
        """Answer a request."""
        path = request.target.split("/", 2)[2].partition("?")[0]
        if path == "events":
            yield from self._events()
        elif path == "tasks":
            yield from json_answer([_task("failed" if self._failed.is_set() else "running")])
            if self._opened.is_set() and "desired-state" not in request.target:
                self._seen.set()
        else:
            yield from json_answer({"ID": "swarm"} if path == "swarm" else [])

    def _events(self) -> Iterable[bytes]:
        self._opened.set()
        yield from chunked(end=False)
        # The look that follows the beginning of the events; no other one is due.
        self._seen.wait()
        self._failed.set()
        yield b"%x\r\n%b\r\n" % (len(self._event), self._event)
        self._left.wait()

    def leave(self) -> None:
        """End the answers that are open."""
        self._seen.set()
        self._left.set()


@pytest.mark.parametrize(("kind", "changed"), [("service", "s1"), ("node", "n1")])
def test_an_event_of_a_manager_wakes_a_watch(
    kind: str, changed: str, address: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a replica is seen although the next look without an event is an hour away."""
    manager = Manager({"Type": kind, "Action": "update", "Actor": {"ID": changed}})
    endpoint = Endpoint(url=f"unix://{address}", swarm=Swarm())
    monkeypatch.setattr(events, "_QUIET_S", 3_600)
    monkeypatch.setattr(events, "_BUSY_S", 3_600)

    with Stub(manager, address), SwarmEngine.connect(endpoint) as engine:
        try:
            with closing(engine.events()) as found:
                died = next(one for one in found if one.action == "die")
        finally:
            manager.leave()

    assert (3, "app-trainer-0") == (died.exit_code, died.name)
