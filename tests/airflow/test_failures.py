"""How a task fails: what its error tells, and what is left on the daemon."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_torchx.core.engine import labels
from airflow_torchx.errors import (
    AppCancelledError,
    AppFailedError,
    AppNotFoundError,
    ComponentError,
    InvalidAppError,
    ResultError,
)
from airflow_torchx.runtime import lifecycle
from tests.airflow.apps import FOREVER, both_modes, shell
from tests.airflow.processes import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.protocol import Engine
    from tests.airflow.one_task import OneTask

pytestmark = pytest.mark.docker


@both_modes
def test_failure_card(one_task: OneTask) -> None:
    """The error has all replicas, the first that failed and its last lines; its peers are gone."""
    last_words = "for i in $(seq 30); do echo line $i; done; exit 3"
    script = f'if [ "${{replica_id}}" = 1 ]; then {last_words}; fi; {FOREVER}'

    ended = one_task.run(app=shell(script, replicas=3))

    error = ended.error
    assert "failed" == ended.state
    assert isinstance(error, AppFailedError)
    assert (3, "worker/1") == (error.exit_code, error.replica)
    assert "worker/1 failed first: exit code 3" in error.card
    assert 20 == error.card.count("  line ")
    assert error.card.rstrip().endswith("line 30")
    rows = [line.split() for line in error.card.splitlines() if line.startswith("worker/")]
    assert ["CANCELLED", "FAILED", "CANCELLED"] == [row[1] for row in rows[-3:]]
    assert [] == ended.rows


@both_modes
@pytest.mark.parametrize(
    ("end", "errors"),
    [
        (lifecycle.cancel, AppCancelledError),
        # A delete cancels first. The task sees the one or the other.
        (lifecycle.delete, (AppCancelledError, AppNotFoundError)),
    ],
    ids=["cancel", "delete"],
)
def test_ended_by_another_client(
    one_task: OneTask,
    docker_engine: Engine,
    end: Callable[[Engine, str], None],
    errors: type[Exception] | tuple[type[Exception], ...],
) -> None:
    """A task fails if another client cancels or removes its app, and leaves no container."""

    def end_when_running() -> None:
        until(lambda: ["running"] * 2 == [row.state for row in one_task.rows()], "two replicas")
        end(docker_engine, one_task.rows()[0].labels[labels.APP_ID])

    with ThreadPoolExecutor() as pool:
        other = pool.submit(end_when_running)
        ended = one_task.run(app=shell(FOREVER))
        other.result()

    assert isinstance(ended.error, errors)
    assert re.search("no app|CANCELLED: another client stopped it", str(ended.error))
    assert [] == ended.rows


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("true", "left no file /result.json"),
        ("mkdir /result.json", "cannot be used"),
        ("echo accuracy=0.9 > /result.json", "cannot be used"),
        ("echo NaN > /result.json", "not JSON compliant"),
        ("yes [ | head -c 200000 > /result.json", "cannot be used"),
        ("yes 1 | head -c 2000000 > /result.json", "at most 1024 KiB"),
    ],
    ids=["missing", "folder", "not-json", "not-a-number", "too-deep", "too-large"],
)
def test_bad_result(one_task: OneTask, script: str, told: str) -> None:
    """A result that cannot be used fails the task, names the file, and leaves nothing behind."""
    ended = one_task.run(app=shell(script), result_path="/result.json")

    assert isinstance(ended.error, ResultError)
    assert told in str(ended.error)
    assert "/result.json" in str(ended.error)
    assert [] == ended.rows


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"component": "dist.dpp"}, "unknown component 'dist.dpp'\nDid you mean 'dist.ddp'?"),
        ({"component": "dist.ddp", "component_args": "--scrpt a.py"}, "did you mean --script?"),
        (
            {
                "component": "dist.ddp",
                "component_args": "--scrpt a.py",
                "options": {"netwrok": "n"},
            },
            "did you mean 'network'?",
        ),
        (
            {"component": "dist.ddp", "component_args": "train.py"},
            "mean --script train.py?",
        ),
        ({"component": "parts/t.py"}, "Did you mean 'parts/t.py:function'?"),
        ({"component": "dist.ddp", "component_args": "--script a"}, "set image=, or the image"),
        ({"app": shell("true"), "env": {"A": None}}, "entry 'A' needs strings"),
        (
            {"app": shell("true"), "env_conn_ids": ["no"]},
            "env_conn_ids: there is no con",
        ),
        ({"app": shell("true"), "torchx_conn_id": "no"}, "torchx_conn_id: there is no connection"),
        ({"app": {"name": "app", "rolls": []}}, "rolls"),
        ({"app": shell("true"), "options": {"netwrok": "n"}}, "did you mean 'network'?"),
        ({"app": shell("true"), "options": {"network": ["n"]}}, "options.network"),
    ],
)
def test_bad_arguments(one_task: OneTask, arguments: dict[str, Any], told: str) -> None:
    """Wrong arguments fail the task with an error that tells what to mend; nothing is created.

    Airflow retries it only for a connection that is missing, which may be added meanwhile.
    """
    is_final = "conn_id" not in told
    ended = one_task.run(**arguments, retries=1, retry_delay=timedelta(0))

    assert ([True] if is_final else [False] * 2) == [
        isinstance(error, AirflowFailException) for error in ended.errors
    ]
    assert isinstance(ended.errors[0], (ComponentError, InvalidAppError))
    assert told in str(ended.errors[0])
    assert [] == ended.rows
