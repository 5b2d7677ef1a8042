"""What the page says and does when Airflow refuses or fails, in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.ui.browser import Screen
    from tests.ui.played_airflow import PlayedAirflow


@pytest.fixture(autouse=True)
def _may_fail(screen: Screen) -> None:
    screen.may_fail = True


@pytest.mark.parametrize(
    ("route", "status", "said"),
    [
        ("xcomEntries", 403, "Ask for the right to read XComs of its DAG."),
        ("GET /api", 403, "Ask for the right to read its DAG, and task instances of that."),
        ("taskInstances/gang", 403, "Ask for the right to read its DAG, and task instances"),
        ("taskInstances", 401, "You are not logged in"),
        ("taskInstances", 404, "Airflow does not know this task instance."),
        ("taskInstances", 500, "Airflow does not answer (Airflow answered with status 500)."),
    ],
)
def test_a_refusal_says_what_to_do(
    airflow: PlayedAirflow, screen: Screen, route: str, status: int, said: str
) -> None:
    """A user without a right sees which one, and nothing of the app."""
    task = airflow.add("oom", state="failed")
    airflow.refusals[route] = status

    screen.open(airflow.page(task))

    expect(screen.page.get_by_role("status")).to_contain_text(said)
    expect(screen.page.get_by_text("Loading")).to_be_hidden()
    expect(screen.page.locator("torchx-view")).not_to_contain_text("trainer")


@pytest.mark.parametrize("route", ["state-store", "/tries"])
def test_a_refusal_of_earlier_tries_names_their_right(
    airflow: PlayedAirflow, screen: Screen, route: str
) -> None:
    """The earlier tries of a task need the same right as the task."""
    task = airflow.add("oom", state="failed", try_number=2, tries=["failed", "failed"])
    airflow.refusals[route] = 403

    screen.open(airflow.page(task))

    said = "You may not read this task. Ask for the right to read its DAG, and task instances"
    expect(screen.page.get_by_role("status")).to_contain_text(said)


def test_a_list_that_is_refused_names_its_right(airflow: PlayedAirflow, screen: Screen) -> None:
    """The list needs the right to read task instances, of any DAG."""
    airflow.refusals["taskInstances"] = 403

    screen.open(airflow.page())

    said = "You may not read task instances. Ask for the right to read those of a DAG."
    expect(screen.page.get_by_role("status")).to_contain_text(said)


def test_a_log_that_may_not_be_read_says_so(airflow: PlayedAirflow, screen: Screen) -> None:
    """The app is shown to a user who may read XComs, but no logs."""
    airflow.refusals["/logs/"] = 403
    screen.open(airflow.page(airflow.add("oom", state="failed")))

    screen.page.get_by_role("button", name="Log of trainer/2").click()

    expect(screen.page.get_by_text("You may not read the log of this task.")).to_be_visible()
    expect(screen.page.locator(".lane")).to_have_count(8)


def test_a_list_that_cannot_be_read_says_so(airflow: PlayedAirflow, screen: Screen) -> None:
    """The list keeps asking, and has the rows when Airflow answers again."""
    airflow.add("running")
    airflow.refusals["taskInstances"] = 503
    screen.page.clock.install()
    screen.open(airflow.page())
    expect(screen.page.get_by_role("status")).to_contain_text("status 503). Trying again.")

    airflow.refusals.clear()
    screen.page.clock.run_for(31_000)

    expect(screen.page.locator("tbody tr")).to_have_count(1)
    expect(screen.page.get_by_role("status")).to_be_hidden()


def test_a_dry_run_that_fails_is_repeated(airflow: PlayedAirflow, screen: Screen) -> None:
    """A user who may stop an app has the button as soon as Airflow answers."""
    airflow.refusals["PATCH"] = 503
    screen.page.clock.install()
    screen.open(airflow.page(airflow.add("running")))
    expect(screen.page.locator(".lane")).to_have_count(9)
    expect(screen.page.get_by_role("button", name="Stop app")).to_be_hidden()

    airflow.refusals.clear()
    screen.page.clock.run_for(6_000)

    expect(screen.page.get_by_role("button", name="Stop app")).to_be_visible()


def test_a_stop_that_fails_is_said_in_its_dialog(airflow: PlayedAirflow, screen: Screen) -> None:
    """The dialog stays, so that the user can try again."""
    task = airflow.add("running")
    screen.open(airflow.page(task))
    screen.page.get_by_role("button", name="Stop app").click()
    airflow.refusals["PATCH"] = 409
    stop = screen.page.get_by_role("button", name="Stop", exact=True)

    stop.click()

    expect(screen.page.get_by_role("alert")).to_contain_text("Airflow did not stop the task")
    expect(stop).to_be_enabled()
    assert "running" == task.state
