"""The list of apps in a browser, on a small server that plays Airflow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.ui.played_airflow import PlayedAirflow, PlayedTask

if TYPE_CHECKING:
    from tests.ui.browser import Screen

LIST = "GET /api/v2/dags/~/dagRuns/~/taskInstances"
KEYS = f"{LIST}/~/xcomEntries"


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
    screen.stop_clock()

    screen.open(airflow.page())

    expect(screen.page.get_by_text("1\N{EN DASH}50 of 500")).to_be_visible()
    expect(screen.page.locator("tbody tr")).to_have_count(50)
    assert [LIST] == airflow.requests
    screen.page.get_by_role("button", name="Older").click()
    expect(screen.page.get_by_text("51\N{EN DASH}100 of 500")).to_be_visible()


def test_a_failed_app_says_why_in_its_row(airflow: PlayedAirflow, screen: Screen) -> None:
    """Rows have exit code, signal, lack of memory and failure rule; a cancel says so."""
    names = {"oom": "failed", "worker": "up_for_retry", "cancelled": "failed", "running": "running"}
    for name, state in names.items():
        airflow.add(name, task_id=name, state=state)
    screen.stop_clock()

    screen.open(airflow.page())

    why = screen.page.locator("tbody .why")
    expect(why).to_have_text(
        [
            "trainer/2: out of memory, exit 137, SIGKILL",
            "trainer/1: exit 1, worker rank 5, failure rule cuda_out_of_memory",
            "cancelled",
            "",
        ]
    )
    expect(screen.page.locator("tbody .why:visible")).to_have_count(3)
    assert [LIST, KEYS.replace("~", "train_nightly", 1)] == airflow.requests
    screen.page.clock.resume()
    assert [] == screen.violations()
    screen.take_picture("list-failures", "main")


def test_a_list_of_500_failed_apps_is_three_requests(
    airflow: PlayedAirflow, screen: Screen
) -> None:
    """The failures of a page are two answers at most, and are not asked for again."""
    screen.stop_clock()
    for number in range(500):
        airflow.add("oom", dag_id=f"train_{number % 7}", task_id=f"t{number}", state="failed")

    screen.open(airflow.page())
    expect(screen.page.locator("tbody .why:visible")).to_have_count(50)
    first = airflow.requests.copy()
    with screen.page.expect_response(lambda response: "~/taskInstances?" in response.url):
        screen.page.clock.run_for(31_000)
    older = screen.page.get_by_role("button", name="Older")
    with screen.page.expect_response(lambda response: "xcomEntries" in response.url):
        older.click()
    with screen.page.expect_response(re.compile("xcomEntries.*offset=100")):
        older.click()

    expect(screen.page.locator("tbody .why:visible")).to_have_count(50)
    assert [LIST, KEYS] == first
    assert [KEYS] * 4 == [one for one in airflow.requests if one != LIST]


def test_a_reader_who_may_not_read_xcoms_has_a_list(airflow: PlayedAirflow, screen: Screen) -> None:
    """Airflow refuses the keys once; the rows are there."""
    airflow.refusals["xcomEntries"] = 403
    screen.may_fail = True
    screen.page.clock.install()
    airflow.add("oom", state="failed")

    with screen.page.expect_response(re.compile("xcomEntries")):
        screen.open(airflow.page())
    expect(screen.page.locator("tbody tr")).to_have_count(1)
    screen.page.wait_for_function(
        "document.querySelector('torchx-view').page.failures.known.size === 1"
    )
    with screen.page.expect_response(lambda response: "~/taskInstances?" in response.url):
        screen.page.clock.run_for(31_000)
    assert 1 == sum(one.endswith("xcomEntries") for one in airflow.requests)
    expect(screen.page.locator("tbody .why")).to_be_hidden()


def test_filters_live_in_the_address(airflow: PlayedAirflow, screen: Screen) -> None:
    """State, DAG, task, run and time are in the address; a reload keeps them, Back removes them."""
    airflow.add("oom", dag_id="other", task_id="train", state="success", start_date="2020-01-01")
    wanted = {"dag_id": "nightly", "task_id": "probe", "run_id": "scheduled__1", "state": "failed"}
    airflow.add("oom", **wanted, start_date="2099-01-01")
    screen.open(airflow.page())
    rows = screen.page.locator("tbody tr")
    filters = {"state": "failed", "dag": "ightl", "task": "prob", "run": "led__", "since": "24h"}

    for name, value in filters.items():
        field = screen.page.locator(f"form [name={name}]")
        expect(rows).to_have_count(2)
        if name in {"state", "since"}:
            field.select_option(value)
        else:
            field.fill(value)
        expect(screen.page).to_have_url(re.compile(rf"\?{name}={value}$"))
        expect(rows).to_have_count(1)
        screen.page.reload()
        expect(field).to_have_value(value)
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("probe")
        screen.page.go_back()
        expect(field).to_have_value("")


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
    screen.stop_clock()
    screen.open(airflow.page())
    expect(screen.page.locator("tbody tr")).to_have_count(1)
    before = screen.page.url
    screen.page.get_by_label("DAG").fill("train")

    screen.page.locator("torchx-view").evaluate("(view) => view.remove()")
    screen.page.clock.run_for(1_000)

    assert before == screen.page.url
