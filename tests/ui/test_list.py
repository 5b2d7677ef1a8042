"""The list of apps in a browser, on a small server that plays Airflow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.ui.played_airflow import PlayedAirflow, PlayedTask

if TYPE_CHECKING:
    from tests.ui.browser import Screen


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_list_is_accessible(airflow: PlayedAirflow, screen: Screen, scheme: str) -> None:
    """axe-core finds no violation on the page that lists apps."""
    states = ("running", "deferred", "success", "failed", "up_for_retry", "queued", "skipped")
    for number, state in enumerate(states):
        airflow.add("running", task_id=f"train_{number}", state=state)

    screen.open(airflow.page(scheme=scheme))

    expect(screen.page.locator("tbody tr")).to_have_count(7)
    assert [] == screen.violations()
    screen.take_picture(f"list-{scheme}", "main")


def test_a_list_of_500_apps_is_one_request(airflow: PlayedAirflow, screen: Screen) -> None:
    """The list asks for the rows of one page, whatever the number of apps."""
    for number in range(500):
        airflow.tasks.append(PlayedTask(task_id=f"train_{number}", state="success"))

    screen.open(airflow.page())

    expect(screen.page.get_by_text("1\N{EN DASH}50 of 500")).to_be_visible()
    expect(screen.page.locator("tbody tr")).to_have_count(50)
    assert ["GET /api/v2/dags/~/dagRuns/~/taskInstances"] == airflow.requests
    screen.page.get_by_role("button", name="Older").click()
    expect(screen.page.get_by_text("51\N{EN DASH}100 of 500")).to_be_visible()


def test_filters_live_in_the_address(airflow: PlayedAirflow, screen: Screen) -> None:
    """A filter survives a reload, and Back takes it away."""
    for number, state in enumerate(("failed", "success", "success")):
        airflow.add("running", task_id=f"train_{number}", state=state)
    screen.open(airflow.page())
    expect(screen.page.locator("tbody tr")).to_have_count(3)

    screen.page.get_by_label("State").select_option("failed")

    expect(screen.page.locator("tbody tr")).to_have_count(1)
    expect(screen.page).to_have_url(re.compile(r"\?state=failed$"))
    screen.page.reload()
    expect(screen.page.locator("tbody tr")).to_have_count(1)
    expect(screen.page.get_by_label("State")).to_have_value("failed")
    screen.page.go_back()
    expect(screen.page.locator("tbody tr")).to_have_count(3)


def test_a_page_after_the_last_one_says_how_long_the_list_is(
    airflow: PlayedAirflow, screen: Screen
) -> None:
    """A bookmark of a page that has no rows left does not read as if no task ran an app."""
    airflow.add("running")

    screen.open(f"{airflow.page()}&page=3")

    expect(screen.page.get_by_text("The list has only 1 app.")).to_be_visible()
    screen.page.get_by_role("button", name="Newer").click()
    expect(screen.page).to_have_url(re.compile(r"page=2$"))


def test_a_list_that_a_reader_leaves_does_not_lead_back(
    airflow: PlayedAirflow, screen: Screen
) -> None:
    """A filter that was still being typed when the reader opened a task is dropped."""
    airflow.add("running")
    screen.page.clock.install()
    screen.open(airflow.page())
    expect(screen.page.locator("tbody tr")).to_have_count(1)
    before = screen.page.url
    screen.page.get_by_label("DAG").fill("train")

    screen.page.locator("torchx-view").evaluate("(view) => view.remove()")
    screen.page.clock.run_for(1_000)

    assert before == screen.page.url
