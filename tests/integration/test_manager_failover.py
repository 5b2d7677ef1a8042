"""Managers of a swarm that do not answer, or that have lost the others."""

from __future__ import annotations

import logging
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.swarm.task_fields import TaskFields
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import EngineError, EngineUnreachableError
from airflow_torchx.swarm_engine.managers import Managers
from tests.integration.stub import Request, Stub, failure, json_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_LEADER = "rpc error: code = Unknown desc = The swarm does not have a leader."


class Swarm:
    """Three managers, whose answers a test chooses."""

    def __init__(self, folder: Path) -> None:
        self.answers = [json_answer([])] * 3
        self.ids = ["one"] * 3
        paths = [folder / f"{number}" for number in range(3)]
        self.stubs = [Stub(partial(self._answer, n), path) for n, path in enumerate(paths)]
        self._endpoints = [Endpoint(url=f"unix://{path}") for path in paths]

    def _answer(self, number: int, request: Request) -> list[bytes]:
        if request.target.endswith("/swarm"):
            return json_answer({"ID": self.ids[number]})
        return self.answers[number]

    @property
    def managers(self) -> Managers:
        """Return a client of them."""
        return Managers([partial(DockerEngine.connect, one) for one in self._endpoints])


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    """Run three managers, each of which lists no task."""
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory() as folder:
        made = Swarm(Path(folder))
        first, second, third = made.stubs
        with first, second, third:
            yield made


def _tasks(managers: Managers) -> object:
    return managers.json("GET", "/tasks", "list tasks")


def test_a_manager_without_a_leader_is_left(swarm: Swarm, caplog: pytest.LogCaptureFixture) -> None:
    """The next manager is asked, now and from then on; the log says so once."""
    caplog.set_level(logging.INFO, "airflow_torchx")
    swarm.answers[0] = failure(500, NO_LEADER)
    managers = swarm.managers

    assert [[], []] == [_tasks(managers) for _ in range(2)]

    assert [1, 2, 0] == [len(stub.asked) for stub in swarm.stubs]
    assert [f"another manager of the swarm answers: cannot list tasks: {NO_LEADER}"] == [
        record.message for record in caplog.records
    ]
    managers.close()


def test_without_any_leader(swarm: Swarm, caplog: pytest.LogCaptureFixture) -> None:
    """Each manager is asked once a request; the error says that the containers run on.

    The log has nothing, as the caller may go on, and may repeat the request for minutes.
    """
    caplog.set_level(logging.INFO, "airflow_torchx")
    swarm.answers = [failure(500, NO_LEADER)] * 3
    managers = swarm.managers

    for _ in range(2):
        with pytest.raises(EngineUnreachableError, match="does not have a leader") as raised:
            _tasks(managers)
        assert "Containers run on without them." in raised.value.fix

    assert [2, 2, 2] == [len(stub.asked) for stub in swarm.stubs]
    assert [] == caplog.records
    swarm.answers[1] = json_answer([])
    assert [] == _tasks(managers)
    managers.close()


def test_a_refusal_is_not_repeated(swarm: Swarm) -> None:
    """An error that each manager would give is raised at once."""
    swarm.answers[0] = failure(500, "rpc error: code = InvalidArgument desc = name must be valid")
    managers = swarm.managers

    with pytest.raises(EngineError, match="name must be valid"):
        _tasks(managers)

    assert [1, 0, 0] == [len(stub.asked) for stub in swarm.stubs]
    managers.close()


def test_a_manager_of_another_swarm(swarm: Swarm) -> None:
    """The next manager is asked; without one, it is an error: that swarm does not have the apps."""
    swarm.ids = ["one", "two", "one"]
    swarm.answers = [json_answer(["first"]), json_answer([]), json_answer(["third"])]
    managers = swarm.managers
    managers.expect("one")

    assert ["first"] == _tasks(managers)
    swarm.answers[0] = failure(500, NO_LEADER)
    assert ["third"] == _tasks(managers)
    swarm.answers[2] = failure(500, NO_LEADER)
    with pytest.raises(EngineUnreachableError, match=r"/1 is a manager of another swarm") as raised:
        _tasks(managers)

    assert "Leave it out of the managers" in raised.value.fix
    managers.close()


def test_an_answer_that_is_not_json(swarm: Swarm) -> None:
    """The next manager is asked; the error says what is wrong if none is one."""
    html = [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"]
    swarm.answers[0] = html
    assert [] == _tasks(swarm.managers)

    swarm.answers = [html] * 3
    with pytest.raises(EngineUnreachableError, match=r"cannot list tasks: .* is not a Docker"):
        _tasks(swarm.managers)


def test_the_fields_of_an_answer(swarm: Swarm) -> None:
    """Only the fields that are read are returned; a manager that answers something else is left."""
    task = {"ID": "t", "Slot": 1, "Spec": {"ContainerSpec": {"Image": "i", "Env": ["A=1"]}}}
    swarm.answers[0], swarm.answers[1] = json_answer({"message": "?"}), json_answer([task])

    found = swarm.managers.json("GET", "/tasks", "list tasks", list[TaskFields])

    assert [{"ID": "t", "Spec": {"ContainerSpec": {"Image": "i"}}}] == found
