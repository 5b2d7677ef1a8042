"""The address of a task's tab."""

from __future__ import annotations

from dataclasses import replace

from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.task.page_link import LINK_KEY, TorchXAppLink, page_path


def test_the_address_is_relative_and_escapes_what_a_run_id_may_have() -> None:
    """The address is the one that the list of the page links to (tests/ui/requests.test.mjs)."""
    mapped = TaskAttempt(
        dag_id="d",
        run_id="manual__2026-11-24T03:00:00+00:00",
        task_id="g.t",
        map_index=12,
        max_tries=0,
        try_number=1,
    )
    odd = replace(mapped, run_id="a/b", map_index=-1)

    assert (
        "dags/d/runs/manual__2026-11-24T03%3A00%3A00%2B00%3A00/tasks/g.t/mapped/12/plugin/torchx-app"
    ) == page_path(mapped)
    assert "dags/d/runs/a%2Fb/tasks/g.t/plugin/torchx-app" == page_path(odd)


def test_airflow_reads_the_link_from_the_xcom_that_the_task_pushes() -> None:
    """Airflow derives the key of the XCom from the name of the class."""
    assert LINK_KEY == TorchXAppLink().xcom_key
