"""Why an app failed, as the key of an XCom."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_torchx.core.state.failure_key import failure_key, failure_xcoms

FAILURE: dict[str, Any] = {
    "role": "trainer",
    "id": 2,
    "kind": "oom",
    "exit": 137,
    "signal": "SIGKILL",
    "rule": "out-of-memory",
    "worker": None,
}


def test_a_failure() -> None:
    """The key has the replica, why it failed, its exit code, its signal and the failure rule."""
    key = "torchx_failure:trainer/2,oom,exit=137,signal=SIGKILL,rule=out-of-memory"

    assert key == failure_key(FAILURE)
    assert {key: "app-1"} == failure_xcoms({"app_id": "app-1", "failure": FAILURE})


def test_a_worker_of_torchrun() -> None:
    """Of a worker, its rank and its signal count, not those of torchrun."""
    worker = {"rank": 5, "exit": 1, "signal": None, "message": "boom"}
    failure = {**FAILURE, "kind": "exit", "exit": 1, "rule": None, "worker": worker}

    assert "torchx_failure:trainer/2,exit,exit=1,rank=5" == failure_key(failure)


def test_an_app_that_was_cancelled() -> None:
    """A cancelled app has no replica to blame."""
    failure = {"kind": "cancel", "peers_stopped": 4, "lines": []}

    assert "torchx_failure:,cancel" == failure_key(failure)


@pytest.mark.parametrize("text", ["a,b=c?d#e%f g", "x" * 900, "\N{SNOWMAN}\n"])
def test_texts_of_users(text: str) -> None:
    """A name of a role or a rule changes neither the path of a request nor other facts."""
    key = failure_key({**FAILURE, "role": text, "rule": text})

    assert 4 == key.count(",")
    assert not set("?#% \n") & set(key)
    assert len(key) < 512


def test_an_app_that_succeeded() -> None:
    """An app that did not fail has no such XCom."""
    assert {} == failure_xcoms({"app_id": "app-1", "failure": None})
