"""The log of a replica in a browser, on a small server that plays Airflow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.ui.browser import Screen
    from tests.ui.played_airflow import PlayedAirflow


def _lines(*texts: str, replica: int = 2) -> list[dict[str, Any]]:
    return [{"event": text, "role": "trainer", "replica": replica} for text in texts]


def test_a_log_of_a_running_app_is_followed(airflow: PlayedAirflow, screen: Screen) -> None:
    """New lines appear without a click, and a second click on the lane closes the log."""
    task = airflow.add("running", log=_lines("step 1"))
    screen.page.clock.install()
    screen.open(airflow.page(task))
    lane = screen.page.locator(".lane[data-key='trainer/2']")
    lane.click()
    text = screen.page.locator(".log pre")
    expect(text).to_have_text("step 1")
    expect(screen.page.get_by_text("1 line", exact=True)).to_be_visible()

    task.log += _lines("step 2")
    screen.page.clock.run_for(11_000)

    expect(text).to_have_text("step 1\nstep 2")
    lane.click()
    expect(screen.page.locator(".log")).to_be_hidden()


def test_a_log_of_another_replica_replaces_the_one_before(
    airflow: PlayedAirflow, screen: Screen
) -> None:
    """A replica without lines has an empty log, with the reason."""
    task = airflow.add("oom", state="failed", log=_lines("step 1"))
    screen.open(airflow.page(task))
    screen.page.locator(".lane[data-key='trainer/2']").click()
    expect(screen.page.locator(".log pre")).to_have_text("step 1")

    screen.page.locator(".square[data-key='trainer/3']").click()

    expect(screen.page.locator(".log h3")).to_have_text("Log of trainer/3, try 1")
    expect(screen.page.locator(".log pre")).to_be_empty()
    expect(screen.page.get_by_text("The task log has no lines of this replica.")).to_be_visible()


def test_a_long_task_log_is_cut_and_not_followed(airflow: PlayedAirflow, screen: Screen) -> None:
    """The page reads a task log of thousands of lines again only when a reader asks for it.

    The lines of other replicas count: Airflow sends all of them.
    """
    own = _lines(*(f"step {number}" for number in range(2500)))
    task = airflow.add("running", log=own + _lines(*["another's"] * 2501, replica=1))
    screen.page.clock.install()
    screen.open(airflow.page(task))

    screen.page.locator(".lane[data-key='trainer/2']").click()

    said = "the last 1000 of 2500 lines; the task log is too long to follow"
    expect(screen.page.get_by_text(said)).to_be_visible()
    expect(screen.page.locator(".log pre")).to_contain_text("step 1500\n")
    expect(screen.page.locator(".log pre")).not_to_contain_text("step 1499\n")
    screen.page.clock.run_for(31_000)
    with screen.page.expect_response(re.compile("/logs/1")):
        screen.page.get_by_role("button", name="Read again").click()
    assert 2 == sum(request.endswith("/logs/1") for request in airflow.requests)
