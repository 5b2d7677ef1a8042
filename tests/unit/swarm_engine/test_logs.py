"""When the logs of a swarm's replicas are closed."""

from __future__ import annotations

import threading

import pytest

from airflow_torchx.swarm_engine.logs import Endings


@pytest.mark.parametrize("what", ["ended", "unanswered"])
def test_a_log_is_closed(what: str) -> None:
    """A log is closed once its replica has ended, or once managers answer again.

    A stream through a manager that has lost the others may be silent for good.
    """
    has_happened, closed = threading.Event(), threading.Event()

    def live(ids: object) -> set[str]:
        assert ["a"] == ids
        return set() if what == "ended" and has_happened.is_set() else {"a"}

    endings = Endings(live, lambda: int(what == "unanswered" and has_happened.is_set()))
    endings.follow("a", closed.set)
    assert not closed.is_set()

    has_happened.set()

    assert closed.wait(60)
    endings.close()
