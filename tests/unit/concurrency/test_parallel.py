"""Several blocking calls at once."""

from __future__ import annotations

import threading
import time

import pytest

from airflow_torchx.concurrency.parallel import StopRequested, map_concurrently


def test_results_come_in_the_order_of_the_items() -> None:
    """The results have the order of the items, whichever call ends first."""
    ended = [threading.Event() for _ in range(3)]

    def backwards(item: int) -> int:
        if item < 2:
            ended[item + 1].wait()
        ended[item].set()
        return item

    assert [0, 1, 2] == map_concurrently(backwards, range(3))


def test_nothing_is_called_for_nothing() -> None:
    """No items, no threads."""
    assert [] == map_concurrently(pytest.fail, [])


def test_calls_overlap() -> None:
    """As many as there are threads."""
    together = threading.Barrier(4)

    map_concurrently(lambda _: together.wait(5), range(4), threads=4)


def test_after_a_failure_no_call_begins_and_none_goes_on() -> None:
    """What runs is waited for; what waits is dropped."""
    begun: list[int] = []
    ended: list[int] = []

    def call(item: int) -> None:
        begun.append(item)
        if item == 0:
            raise LookupError(item)
        time.sleep(0.05)
        ended.append(item)

    with pytest.raises(LookupError):
        map_concurrently(call, range(100), threads=2)

    assert set(begun) - {0} == set(ended)
    assert len(begun) < 100


def test_a_stop_is_seen_while_calls_run() -> None:
    """The calls that run are waited for; no other begins."""
    begun: list[int] = []

    def call(item: int) -> None:
        begun.append(item)
        time.sleep(0.05)

    with pytest.raises(StopRequested):
        map_concurrently(call, range(100), threads=2, should_stop=lambda: bool(begun))

    assert len(begun) < 100
