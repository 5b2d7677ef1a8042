"""The page in a whole Airflow, in a browser: the tab of a task, and the list in the navigation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.airflow.stack import Stack, Task
    from tests.ui.browser import Screen

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

#: A page of Airflow's needs seconds of a core.
_PATIENCE_MS: Final = 30_000


@pytest.fixture
def task(launch: Callable[[str], Task]) -> Task:
    """Return a task whose app has ended, and whose containers are gone."""
    task = launch("numbered_sync")
    assert "success" == task.wait_for("success", "failed")
    return task


def test_the_page_in_the_navigation_and_as_a_tab(stack: Stack, task: Task, screen: Screen) -> None:
    """A user filters the list, opens a task's tab, reads a log there, and goes back to the list.

    The tab is right in both themes. Airflow has no error from the import of the plugin.
    """
    expect.set_options(timeout=_PATIENCE_MS)
    screen.page.set_default_timeout(_PATIENCE_MS)
    view = screen.page.locator("torchx-view")
    row = view.locator("tbody tr").filter(has_text=task.run_id)
    log = view.locator(".log pre")

    screen.open(f"{stack.url}/plugin/torchx")
    view.get_by_label("DAG").fill("numbered_sync")
    expect(screen.page).to_have_url(re.compile(r"/plugin/torchx\?dag=numbered_sync$"))
    row.get_by_role("link").click()
    view.locator(".lane[data-key='worker/0']").click()

    expect(log).to_contain_text("line 2000")
    expect(view.locator("h2 + span + span")).to_have_text("4 replicas \N{MIDDLE DOT} 4 succeeded")
    assert f"{stack.url}/{_page_of(task)}" == screen.page.url
    assert [] == screen.violations("torchx-view")
    screen.page.go_back()
    expect(row).to_have_count(1)
    screen.take_picture("airflow-list")
    screen.page.add_init_script("localStorage.setItem('theme', 'dark')")
    screen.open(f"{stack.url}/{_page_of(task)}")
    expect(view.locator(".lane")).to_have_count(4)
    assert [] == screen.violations("torchx-view")
    screen.take_picture("airflow-dark")
    assert [] == stack.get("plugins/importErrors")["import_errors"]


def _page_of(task: Task) -> str:
    run = quote(task.run_id, safe="")
    return f"dags/{task.dag_id}/runs/{run}/tasks/{task.task_id}/plugin/torchx-app"
