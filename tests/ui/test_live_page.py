"""The page with live data in a browser: its own server on the fake engine, and a played Airflow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import expect

from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.testing import ManualClock, Program
from tests.ui.live_app import LiveApps, handle_of
from tests.ui.played_airflow import RUN
from tests.ui.serving import served
from tests.ui.test_live import app_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ui.browser import Screen
    from tests.ui.played_airflow import PlayedAirflow, PlayedTask

ATTEMPT: Final = TaskAttempt(
    dag_id="train_nightly", run_id=RUN, task_id="gang", map_index=-1, max_tries=0, try_number=1
)
LINES: Final = [f"step {number}" for number in range(100)]
#: Counts the requests for data of Docker.
COUNT: Final = """
const ask = window.fetch;
window.asked = 0;
window.fetch = (url, ...rest) => {
  window.asked += String(url).includes("torchx/api/");
  return ask(url, ...rest);
};
"""
HOSTILE: Final = "<img src=x onerror=alert(1)>\x1b[31mred\x1b[0m & more"


@pytest.fixture
def task(airflow: PlayedAirflow) -> PlayedTask:
    """Return the task, with a snapshot that the page has read before."""
    found = airflow.add("deferred", state="deferred")
    assert found.snapshot is not None
    found.snapshot |= {"app_id": ATTEMPT.app_id, "handle": handle_of(ATTEMPT)}
    for replica in found.snapshot["roles"][0]["replicas"]:
        del replica["usage"], replica["peak"]
    return found


@pytest.fixture
def apps(airflow: PlayedAirflow, task: PlayedTask) -> Iterator[LiveApps]:
    """Return a daemon with an app of four replicas, whose task is deferred."""
    program = Program(runs_for_s=None, cpus=1.5, lines=[HOSTILE, *LINES], line_every_s=1)
    apps = LiveApps(program=program, clock=ManualClock(airflow.now_s))
    apps.launch(ATTEMPT, replicas=4)
    assert task.snapshot is not None
    ids = {row.name: row.id[:12] for row in apps.engine.rows({})}
    for replica, name in zip(task.snapshot["roles"][0]["replicas"], sorted(ids), strict=True):
        replica["container"] = ids[name]
    apps.engine.calls.clear()
    # At its end, the client of Starlette may hang if several threads have used it.
    with served(app_of(apps)) as airflow.docker:
        yield apps


def advance(apps: LiveApps, screen: Screen, airflow: PlayedAirflow, seconds: int = 5) -> None:
    """Let time pass, for the daemon, the server and the browser, until a request is answered."""
    apps.clock.advance(seconds)
    airflow.now_s += seconds
    with screen.page.expect_response(lambda response: "/stats?" in response.url):
        screen.page.clock.run_for(seconds * 1000)


def asked(airflow: PlayedAirflow, part: str) -> int:
    """Return how many requests had this part in their paths."""
    return sum(part in request for request in airflow.requests)


def test_usage_and_states_are_fresh(
    airflow: PlayedAirflow, apps: LiveApps, task: PlayedTask, screen: Screen
) -> None:
    """Two readings, 5 seconds apart, show CPU and memory of a deferred task, and who has failed."""
    screen.page.clock.install()
    screen.open(airflow.page(task))
    lane = screen.page.locator(".lane[data-key='trainer/2']")
    expect(lane).to_contain_text("peak 1 MiB of 16 GiB")

    advance(apps, screen, airflow)

    expect(lane).to_contain_text("1.5 of 4 CPUs")
    apps.engine.end("trainer/2", 137, oom_killed=True)
    advance(apps, screen, airflow)
    expect(lane).to_contain_text("exit 137")
    expect(lane).to_contain_text("out of memory")
    expect(screen.page.get_by_text("trainer/2 ran out of memory").first).to_be_visible()
    expect(screen.page.locator(".lane[data-key='trainer/1']")).to_contain_text("running")
    assert 1 == asked(airflow, "/torchx/features")
    screen.take_picture("live")
    assert [] == screen.violations("torchx-view")


def test_usage_before_the_first_snapshot_of_it(
    airflow: PlayedAirflow, apps: LiveApps, task: PlayedTask, screen: Screen
) -> None:
    """An app whose snapshot has no usage yet has no line for a limit that is not known."""
    assert task.snapshot is not None
    for replica in task.snapshot["roles"][0]["replicas"]:
        for field in ("usage", "peak", "limit"):
            replica.pop(field, None)
    screen.page.clock.install()
    screen.open(airflow.page(task))
    lane = screen.page.locator(".lane[data-key='trainer/2']")
    expect(lane.locator(".mem")).to_contain_text("peak")

    advance(apps, screen, airflow)

    expect(lane.locator(".cpu")).to_contain_text("1.5 CPUs")
    expect(lane.locator(".cpu polyline")).to_have_attribute("points", re.compile(r"\d"))
    expect(lane.locator(".cpu line")).to_have_css("display", "none")


def test_the_log_of_a_deferred_task_is_followed(
    airflow: PlayedAirflow, apps: LiveApps, task: PlayedTask, screen: Screen
) -> None:
    """Lines come from the container as text, each of them once."""
    screen.page.clock.install()
    screen.open(airflow.page(task, scheme="dark"))
    expect(screen.page.locator(".lane[data-key='trainer/1']")).to_contain_text("peak")
    screen.page.locator(".lane[data-key='trainer/1']").click()
    text = screen.page.locator(".log pre")
    expect(text).to_have_text("<img src=x onerror=alert(1)>red & more")

    for _ in range(2):
        with screen.page.expect_response(lambda response: "/logs?" in response.url):
            advance(apps, screen, airflow)

    expect(text).to_have_text("\n".join(["<img src=x onerror=alert(1)>red & more", *LINES[:10]]))
    expect(screen.page.get_by_text("11 lines, from Docker")).to_be_visible()
    screen.take_picture("live-log-dark")
    assert [] == screen.violations("torchx-view")
    assert 0 == screen.page.locator(".log img").count()
    assert 0 == asked(airflow, "/taskInstances/gang/logs")


def test_a_long_log_is_cut(
    airflow: PlayedAirflow, apps: LiveApps, task: PlayedTask, screen: Screen
) -> None:
    """The page keeps the last thousand lines."""
    apps.program = Program(runs_for_s=None, lines=[str(number) for number in range(1500)])
    apps.remove_all()
    apps.launch(ATTEMPT, replicas=4)
    screen.open(airflow.page(task))
    expect(screen.page.locator(".lane[data-key='trainer/1']")).to_contain_text("peak")

    screen.page.locator(".lane[data-key='trainer/1']").click()

    expect(screen.page.get_by_text("the last 1000 lines, from Docker")).to_be_visible()
    expect(screen.page.locator(".log pre")).to_contain_text("500\n501")


def test_usage_that_is_cut(
    airflow: PlayedAirflow, apps: LiveApps, task: PlayedTask, screen: Screen
) -> None:
    """The page says of how many of the running replicas it shows the usage, and no longer."""
    apps.remove_all()
    apps.launch(ATTEMPT, replicas=128)
    screen.page.clock.install()
    screen.open(airflow.page(task))
    note = screen.page.get_by_text("Live usage of 64 of 128 running replicas.")
    expect(note).to_be_visible()
    screen.take_picture("live-cut")
    assert [] == screen.violations("torchx-view")

    for index in range(64):
        apps.engine.end(f"trainer/{index}", 0)
    advance(apps, screen, airflow)

    expect(note).to_be_hidden()


def test_containers_that_are_gone(
    airflow: PlayedAirflow, apps: LiveApps, task: PlayedTask, screen: Screen
) -> None:
    """The page goes on with the snapshot, and says so; the log is the one of the task."""
    screen.may_fail = True
    task.log += [{"event": "of the task log", "role": "trainer", "replica": 1}]
    screen.page.clock.install()
    screen.open(airflow.page(task))
    lane = screen.page.locator(".lane[data-key='trainer/1']")
    expect(lane).to_contain_text("peak")
    lane.click()
    expect(screen.page.locator(".log pre")).to_contain_text("red & more")

    apps.remove_all()
    advance(apps, screen, airflow)

    expect(screen.page.get_by_text("Docker has no containers of this app any more")).to_be_visible()
    expect(lane).to_contain_text("running")
    expect(screen.page.locator(".log pre")).to_have_text("of the task log")


def test_a_daemon_that_fails(
    airflow: PlayedAirflow, apps: LiveApps, task: PlayedTask, screen: Screen
) -> None:
    """The page keeps what it shows, says why it is not newer, and recovers."""
    screen.may_fail = True
    screen.page.clock.install()
    screen.open(airflow.page(task))
    lane = screen.page.locator(".lane[data-key='trainer/1']")
    expect(lane).to_contain_text("peak")
    note = screen.page.get_by_text("No live data: the Docker daemon of this app does not answer")

    apps.engine.down = True
    advance(apps, screen, airflow)

    expect(note).to_be_visible()
    screen.take_picture("live-no-answer")
    expect(lane).to_contain_text("peak")
    apps.engine.down = False
    advance(apps, screen, airflow)
    expect(note).to_be_hidden()


def test_a_reader_without_the_right_sees_the_snapshot(
    airflow: PlayedAirflow, task: PlayedTask, apps: LiveApps, screen: Screen
) -> None:
    """A refused request is not repeated, and the page is as without the setting."""
    assert apps.engine
    screen.may_fail = True
    airflow.refusals["/torchx/api/"] = 403
    screen.page.clock.install()
    screen.page.add_init_script(COUNT)
    # The first refusal ends both requests, so only one of them surely has an answer, and the
    # browser counts them.
    with screen.page.expect_response(lambda response: "/torchx/api/" in response.url):
        screen.open(airflow.page(task))

    for _ in range(3):
        with screen.page.expect_response(lambda response: "xcomEntries" in response.url):
            screen.page.clock.run_for(10_000)

    expect(screen.page.locator(".lane[data-key='trainer/1']")).to_contain_text("running")
    expect(screen.page.get_by_text("No live data")).to_have_count(0)
    assert 2 == screen.page.evaluate("asked")


def test_without_the_setting(airflow: PlayedAirflow, task: PlayedTask, screen: Screen) -> None:
    """The page asks once whether it may, and never again."""
    screen.page.clock.install()
    with screen.page.expect_response(lambda response: response.url.endswith("/features")):
        screen.open(airflow.page(task))

    for _ in range(3):
        with screen.page.expect_response(lambda response: "xcomEntries" in response.url):
            screen.page.clock.run_for(10_000)

    assert (1, 0) == (asked(airflow, "/torchx/features"), asked(airflow, "/torchx/api/"))


def test_a_hidden_tab_and_an_ended_app_ask_for_nothing(
    airflow: PlayedAirflow, apps: LiveApps, task: PlayedTask, screen: Screen
) -> None:
    """Only the app that is looked at, and that runs, costs requests to Docker."""
    screen.page.clock.install()
    screen.page.add_init_script(COUNT)
    screen.open(airflow.page(task))
    expect(screen.page.locator(".lane[data-key='trainer/1']")).to_contain_text("peak")
    # The browser counts: what it asks for arrives at the server some time later.
    before = screen.page.evaluate("hideTab(true), asked")

    screen.page.clock.run_for(60_000)

    assert (True, before) == (before > 0, screen.page.evaluate("asked"))
    task.state = "success"
    with screen.page.expect_response(lambda response: "xcomEntries" in response.url):
        screen.page.evaluate("hideTab(false)")
    after = []
    for _ in range(3):
        # The page asks again when it has drawn the answer.
        with screen.page.expect_response(lambda response: "xcomEntries" in response.url):
            screen.page.clock.run_for(31_000)
        after.append(screen.page.evaluate("asked"))
    assert [after[0]] * 3 == after
    assert apps.engine


def test_an_answer_for_another_app_is_dropped(
    airflow: PlayedAirflow, apps: LiveApps, task: PlayedTask, screen: Screen
) -> None:
    """The page shows nothing of an app whose snapshot it does not show."""
    assert task.snapshot is not None
    task.snapshot["app_id"] = "another"
    screen.page.clock.install()
    with screen.page.expect_response(lambda response: "/stats?" in response.url):
        screen.open(airflow.page(task))

    advance(apps, screen, airflow)
    apps.engine.end("trainer/1", 1)
    advance(apps, screen, airflow)

    lane = screen.page.locator(".lane[data-key='trainer/1']")
    expect(lane).to_contain_text("running")
    expect(lane).to_contain_text("limit 16 GiB")
