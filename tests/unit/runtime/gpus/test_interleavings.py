"""No two apps use one GPU, whatever the order of the requests of their clients."""

from __future__ import annotations

import contextlib
from typing import Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.runtime.gpus.clients import Crowd, owners, replica


class Step(NamedTuple):
    """A client makes requests while all others stand still, or something happens to it.

    Args:
        who: index of the client.
        requests: how many it makes; a launch needs ten if it need not wait.
        pace_s: how many seconds each takes.
        event: ``lose`` the answer of its next request, ``kill`` it, or start a ``retry`` or a
            ``trigger`` of its task, which do not know whether the client is dead.
    """

    who: int
    requests: int = 0
    pace_s: float = 0.0
    event: Literal["", "lose", "kill", "retry", "trigger"] = ""


#: A lock is broken after 3 s, a claim after 30 s, a replica that has not started after 60 s.
_PACES_S = (0.0, 8.0)
_ALL = 30
_WHO = st.integers(0, 3)
_REQUESTS = st.tuples(
    _WHO, st.sampled_from((*range(1, 11), 20, _ALL)), st.sampled_from(_PACES_S), st.just("")
)
_EVENTS = st.tuples(
    _WHO, st.just(0), st.just(0.0), st.sampled_from(("lose", "kill", "retry", "trigger"))
)
_STEPS = st.one_of(_REQUESTS, _REQUESTS, _EVENTS).map(lambda one: Step(*one))


def play(crowd: Crowd, counts: list[int], steps: list[Step]) -> None:
    """Launch apps, which need so many GPUs, while their clients take these steps, and end all."""
    for index, count in enumerate(counts):
        crowd.add(f"app{index}", f"key{index}", count)
    for who, requests, pace_s, event in steps:
        client = crowd.clients[who % len(crowd.clients)]
        for _ in range(requests):
            crowd.step(client)
            crowd.clock.advance(pace_s)
        match event:
            case "":
                pass
            case "lose":
                client.loses_answer = True
            case "kill":
                client.kill()
            case "retry" | "trigger":
                name = f"{client.name}{event[0]}"
                is_trigger = event == "trigger"
                crowd.add(name, client.wanted.key, client.wanted.count, is_trigger=is_trigger)
    crowd.finish()


@pytest.mark.parametrize("pace_s", _PACES_S)
@pytest.mark.parametrize("first", range(1, 11))
def test_two_clients(first: int, pace_s: float) -> None:
    """Whichever requests two clients have made when the other one goes on, one app waits."""
    for second in range(1, 20):
        with contextlib.closing(Crowd(1)) as crowd:
            turns = [Step(0, first), Step(1, second, pace_s), Step(0, 10), Step(1, _ALL)]
            play(crowd, [1, 1], turns)


@pytest.mark.parametrize("event", ["kill", "lose"])
@pytest.mark.parametrize("first", range(1, 11))
def test_a_client_and_its_retry(first: int, event: Literal["kill", "lose"]) -> None:
    """Wherever a slow client ends, or repeats a request, it uses no GPU that another app has."""
    last = [Step(0, 1, event="kill")] if event == "kill" else [Step(0, event="lose"), Step(0, 1)]
    for second in range(1, 20):
        with contextlib.closing(Crowd(1)) as crowd:
            steps = [Step(0, first), Step(1, second, 8.0), *last]
            play(
                crowd, [1, 1], [*steps, Step(0, _ALL, event="retry"), Step(2, _ALL), Step(1, _ALL)]
            )


@pytest.mark.parametrize("requests", range(9))
def test_a_holder_that_is_restarted(requests: int) -> None:
    """Whenever a container starts again before the last look of a launch, it has its GPU alone."""
    with contextlib.closing(Crowd(1)) as crowd:
        holder = crowd.engine.create(replica("holder", ["GPU-0"]))
        crowd.engine.start(holder)
        crowd.engine.stop(holder, grace_s=10)
        client = crowd.add("app", "key", 1)
        for _ in range(requests):
            crowd.step(client)

        crowd.engine.start(holder)
        for _ in range(_ALL):
            crowd.step(client)

        assert ["GPU-0"] == owners(crowd.engine)
        assert not client.is_done
        crowd.engine.remove(holder)
        crowd.finish()


@settings(max_examples=200)
@given(
    st.integers(1, 2),
    st.lists(st.integers(1, 2), min_size=2, max_size=3),
    st.lists(_STEPS, max_size=10),
)
def test_any_clients(gpus: int, counts: list[int], steps: list[Step]) -> None:
    """Two replicas that have started never hold one GPU, and each app has its turn."""
    with contextlib.closing(Crowd(gpus)) as crowd:
        play(crowd, [min(count, gpus) for count in counts], steps)
