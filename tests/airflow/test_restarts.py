"""Tasks whose apps are restarted, in both modes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_torchx.core.state.rounds import replica_key, restarts_caused, round_of
from airflow_torchx.specs import AppDef, Role
from tests.airflow.apps import both_modes
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from tests.airflow.one_task import OneTask

pytestmark = pytest.mark.docker

#: Replica 1 fails in the rounds before the given one, in which all succeed.
PROGRAM = """
trap 'exit 143' TERM
[ "$TORCHX_RESTART" -ge {fails} ] && exit 0
[ "$TORCHX_REPLICA_IDX" = 1 ] && exit {code}
sleep 600 & wait $!
"""


def failing(fails: int, retries: int, code: int = 3) -> AppDef:
    """Return an app that fails in some rounds."""
    script = PROGRAM.format(fails=fails, code=code)
    role = Role(
        "worker",
        BUSYBOX,
        entrypoint="sh",
        args=["-c", script],
        num_replicas=2,
        max_retries=retries,
    )
    return AppDef("app", [role])


@both_modes
def test_an_app_is_restarted_within_one_try(one_task: OneTask) -> None:
    """A worker restarts the app while it follows it, and the triggerer while it is deferred."""
    ended = one_task.run(app=failing(2, retries=3), on_finish="keep")

    assert "success" == ended.task_state
    assert 1 == ended.ti.try_number
    assert [("SUCCEEDED", 2)] * 2 == [
        (replica["state"], replica["round"]) for replica in ended.xcom("replicas")
    ]
    assert [0, 0, 1, 1, 2, 2] == sorted(map(round_of, ended.rows))
    assert {"worker": 2} == restarts_caused(ended.rows)
    last = {f"worker/{replica_key(row)[1]}": row.id for row in ended.rows if round_of(row) == 2}
    assert last == ended.xcom("container_ids")


@both_modes
def test_the_containers_of_all_rounds_are_removed(one_task: OneTask) -> None:
    """Nothing is left of an app that has used up its restarts."""
    ended = one_task.run(app=failing(9, retries=1))

    assert "failed" == ended.task_state
    assert "It was restarted once:" in str(ended.error)
    assert [] == ended.rows


@both_modes
def test_an_exit_code_that_fails_the_task(one_task: OneTask) -> None:
    """It does not restart the app, because it would mean the same again."""
    ended = one_task.run(app=failing(9, retries=3, code=42), fail_on_exit_code=42, on_finish="keep")

    assert isinstance(ended.error, AirflowFailException)
    assert 2 == len(ended.rows)


def test_a_launch_that_no_task_waits_for(one_task: OneTask) -> None:
    """Its containers have no retries, because no process would restart them."""
    ended = one_task.run(app=failing(9, retries=3), wait_for_completion=False, on_finish="keep")

    assert "success" == ended.task_state
    assert all("airflow-torchx/retries" not in row.labels for row in ended.rows)
