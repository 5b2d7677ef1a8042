"""Discarding a container while other clients do something with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.errors import EngineConflictError, EngineError, EngineUnreachableError
from tests.integration.stub import Request, Stub, connect, failure, json_answer

if TYPE_CHECKING:
    from pathlib import Path

Answer = Callable[[], list[bytes]]
DISCARDED: Final = "airflow-torchx-discarded-c"
SAME_NAME: Final = failure(400, "Renaming a container with the same name as its current name")
IN_PROGRESS: Final = failure(409, "removal of container c is already in progress")
DONE: Final = [b"HTTP/1.1 204 No Content\r\n\r\n"]


def detail(state: str = "created", name: str = "claim") -> list[bytes]:
    """Return the result of an inspect."""
    return json_answer({"Id": "c", "Name": f"/{name}", "State": {"Status": state}})


class Daemon:
    """Answers the n-th request of each kind with the n-th answer, and then with the last one."""

    def __init__(self, **answers: list[list[bytes]]) -> None:
        self._answers = answers

    def __call__(self, request: Request) -> list[bytes]:
        """Return the answer to an inspect, a rename or a removal."""
        left = self._answers[{"GET": "inspect", "POST": "rename", "DELETE": "remove"}[request[0]]]
        return left.pop(0) if len(left) > 1 else left[0]


def test_requests(address: Path) -> None:
    """A container is renamed before it is removed, and it is never killed."""
    daemon = Daemon(inspect=[detail()], rename=[DONE], remove=[DONE])
    with Stub(daemon, address) as stub, connect(address) as engine:
        assert engine.discard("c")

    assert [
        "GET /containers/c/json",
        f"POST /containers/c/rename?name={DISCARDED}",
        "DELETE /containers/c?v=True&link=False&force=False",
    ] == stub.asked


def test_two_removals_are_confirmed(address: Path) -> None:
    """If Docker confirms the removals of two clients, the one that renamed the container counts."""
    daemon = Daemon(
        inspect=[detail(), detail(), detail(name=DISCARDED)],
        rename=[DONE, SAME_NAME],
        remove=[DONE],
    )
    with Stub(daemon, address), connect(address) as one, connect(address) as other:
        assert [True, False] == [one.discard("c"), other.discard("c")]


def test_a_removal_is_finished(address: Path) -> None:
    """A container that a killed client has only renamed is removed by the next one."""
    daemon = Daemon(inspect=[detail(name=DISCARDED)], rename=[SAME_NAME], remove=[DONE])
    with Stub(daemon, address) as stub, connect(address) as engine:
        assert not engine.discard("c")

    assert "DELETE /containers/c?v=True&link=False&force=False" == stub.asked[-1]


@pytest.mark.parametrize("removal", [IN_PROGRESS, failure(404)])
def test_another_client_removes_it_too(address: Path, removal: list[bytes]) -> None:
    """The first client has discarded a container, even if another one removes it."""
    daemon = Daemon(inspect=[detail()], rename=[DONE], remove=[removal])
    with Stub(daemon, address), connect(address) as engine:
        assert engine.discard("c")


@pytest.mark.parametrize("refusal", [failure(404), failure(500, "no such file or directory")])
@pytest.mark.parametrize("after", [failure(404), detail("removing")])
def test_it_is_removed_meanwhile(address: Path, refusal: list[bytes], after: list[bytes]) -> None:
    """A container that `docker container prune` removes has not been discarded by us."""
    daemon = Daemon(inspect=[detail(), after], rename=[refusal], remove=[failure(404)])
    with Stub(daemon, address), connect(address) as engine:
        assert not engine.discard("c")


@pytest.mark.parametrize("before", [failure(404), detail("removing")])
def test_it_is_removed_already(address: Path, before: list[bytes]) -> None:
    """A container that is gone, or that another client removes, is left to it."""
    with Stub(Daemon(inspect=[before]), address) as stub, connect(address) as engine:
        assert not engine.discard("c")

        assert 1 == len(stub.asked)


@pytest.mark.parametrize("state", ["running", "paused", "restarting"])
def test_it_runs(address: Path, state: str) -> None:
    """A container that runs is not touched."""
    with Stub(Daemon(inspect=[detail(state)]), address) as stub, connect(address) as engine:
        with pytest.raises(
            EngineConflictError, match=f"cannot discard container claim: it is {state}"
        ):
            engine.discard("c")

        assert 1 == len(stub.asked)


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"inspect": [failure(500)]}, "cannot discard container c: because"),
        ({"rename": [failure(500)]}, "cannot discard container c: because"),
    ],
)
def test_it_fails(address: Path, answers: Mapping[str, Any], error: str) -> None:
    """A container that cannot be discarded is an error."""
    daemon = Daemon(**{"inspect": [detail()], "rename": [DONE], "remove": [DONE], **answers})
    with (
        Stub(daemon, address),
        connect(address) as engine,
        pytest.raises(EngineError, match=error),
    ):
        engine.discard("c")


def test_a_removal_fails(address: Path) -> None:
    """It is known who discards a container once it has its new name."""
    daemon = Daemon(inspect=[detail()], rename=[DONE], remove=[failure(500)])
    with Stub(daemon, address), connect(address) as engine:
        assert engine.discard("c")


def test_the_answer_is_lost(address: Path) -> None:
    """If the daemon goes away, it is not known who discarded the container."""

    def answer(request: Request) -> list[bytes]:
        if request.method == "POST":
            raise ConnectionError
        return detail(name=DISCARDED)

    with (
        Stub(answer, address),
        connect(address) as engine,
        pytest.raises(EngineUnreachableError),
    ):
        engine.discard("c")
