"""The page in a browser, on recorded snapshots that a small server serves like Airflow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.sync_api import expect

from tests.ui.played_airflow import PlayedAirflow, PlayedTask, recorded

if TYPE_CHECKING:
    from tests.ui.browser import Screen

HOSTILE: Final = '<img src=x onerror="window.hacked=1">'
#: A line of a log, with what must not be run or hide other text.
LINE: Final = f"trainer/2 loss 0.3 {HOSTILE} \x1b[31mred\x1b[0m"
RETRIED: Final[dict[str, Any]] = {
    "try_number": 3,
    "tries": ["failed", "failed", "running"],
    "store": {f"torchx_app:{n}": recorded(name) for n, name in ((1, "oom"), (2, "worker"))},
}
STATES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "running": ("running", {}),
    "deferred": ("deferred", {"state": "deferred"}),
    "succeeded": ("succeeded", {"state": "success"}),
    "stopped-auxiliary": ("auxiliary", {"state": "success"}),
    "out-of-memory": ("oom", {"state": "failed"}),
    "failed-worker": ("worker", {"state": "failed"}),
    "cancelled": ("cancelled", {"state": "failed"}),
    "restarted": ("restarted", {}),
    "retried": ("running", RETRIED),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_an_app_in_each_state_is_drawn_and_accessible(
    airflow: PlayedAirflow, screen: Screen, state: str, scheme: str
) -> None:
    """An app in each state has its lanes in both themes, and axe-core finds no violation."""
    name, fields = STATES[state]
    task = airflow.add(name, **fields)
    count = sum(role["n"] for role in recorded(name)["roles"])

    screen.open(airflow.page(task, scheme=scheme))

    expect(screen.page.locator(".lane")).to_have_count(count)
    expect(screen.page.locator(".square")).to_have_count(count)
    assert [] == screen.violations()
    screen.take_picture(f"{state}-{scheme}", "main")


def test_the_square_of_a_stopped_auxiliary_role_is_grey(
    airflow: PlayedAirflow, screen: Screen
) -> None:
    """The square of an auxiliary role that was stopped is grey, and no square is red."""
    screen.open(airflow.page(airflow.add("auxiliary", state="success")))

    for tone, count in (("removed", 1), ("success", 2), ("failed", 0)):
        expect(screen.page.locator(f".square[data-tone={tone}]")).to_have_count(count)


def test_an_auxiliary_replica_that_failed_is_not_red(
    airflow: PlayedAirflow, screen: Screen
) -> None:
    """An auxiliary replica that failed has a word and another colour than the culprit."""
    task = airflow.add("auxiliary", state="success")
    assert task.snapshot is not None
    board = task.snapshot["roles"][1]
    board["auxiliary"] = True
    board["replicas"][0] |= {"state": "FAILED", "exit": 1, "signal": None}

    screen.open(airflow.page(task))

    expect(screen.page.locator(".square[data-tone=retry]")).to_have_count(1)
    expect(screen.page.locator(".square[data-tone=failed]")).to_have_count(0)
    expect(screen.page.locator(".lane").last).to_contain_text("exit 1, auxiliary")
    assert [] == screen.violations()
    screen.take_picture("failed-auxiliary", "main")


def test_one_square_is_red(airflow: PlayedAirflow, screen: Screen) -> None:
    """A reader sees the culprit at a glance, and its sentence above the lanes."""
    screen.open(airflow.page(airflow.add("oom", state="failed")))

    expect(screen.page.locator(".square[data-tone=failed]")).to_have_count(1)
    expect(screen.page.locator(".failure h3")).to_have_text(
        "trainer/2 ran out of memory (limit 16 GiB) after 10 min 1 s."
    )
    expect(screen.page.locator(".lane .mark:not([hidden])")).to_have_count(8)


def test_a_narrow_page_fits(airflow: PlayedAirflow, screen: Screen) -> None:
    """At 640 pixels nothing is wider than the page; how replicas ended stays visible."""
    screen.page.set_viewport_size({"width": 640, "height": 1000})
    pages = [airflow.page(airflow.add("oom", state="failed", task_id="a_long_name_" * 6))]

    for number, url in enumerate([*pages, airflow.page()]):
        screen.open(url)
        screen.page.locator(".lane, tbody tr").first.wait_for()
        screen.take_picture(f"narrow-{number}")

        script = "document.querySelector('torchx-view').scrollWidth <= innerWidth"
        assert screen.page.evaluate(script)
    screen.open(pages[0])
    expect(screen.page.get_by_text("exit 137, SIGKILL, out of memory")).to_be_visible()


def test_keys_move_along_the_lanes_and_open_a_log(airflow: PlayedAirflow, screen: Screen) -> None:
    """Arrow keys move the focus, Enter opens a log, and an update keeps the focus."""
    log = [{"event": LINE, "role": "trainer", "replica": 2}]
    task = airflow.add("running", log=log)
    screen.page.clock.install()
    screen.open(airflow.page(task))
    screen.page.locator(".lane").first.focus()

    for key in ("ArrowDown", "ArrowDown", "Enter"):
        screen.page.keyboard.press(key)

    expect(screen.page.locator(".log h3")).to_have_text("Log of trainer/2, try 1")
    assert task.snapshot is not None
    task.snapshot["seq"] += 1
    task.snapshot["roles"][0]["replicas"][0]["restarts"] = 3
    screen.page.clock.run_for(6_000)
    expect(screen.page.locator(".lane").first).to_contain_text("↻3")
    expect(screen.page.locator(".lane:focus")).to_have_attribute("data-key", "trainer/2")


def test_a_log_line_is_a_text(airflow: PlayedAirflow, screen: Screen) -> None:
    """Markup and terminal sequences in a log are neither run nor obeyed."""
    log = [{"event": LINE, "role": "trainer", "replica": 2}, {"event": "a line of the task"}]
    screen.open(airflow.page(airflow.add("oom", state="failed", log=log)))

    screen.page.get_by_role("button", name="Log of trainer/2").click()

    expect(screen.page.locator(".log pre")).to_have_text(f"loss 0.3 {HOSTILE} red")
    assert screen.page.evaluate("window.hacked") is None


def test_hostile_names_are_texts(airflow: PlayedAirflow, screen: Screen) -> None:
    """Whatever a task writes into its XCom is shown as a text."""
    task = airflow.add("oom", state="failed")
    snapshot: dict[str, Any] = _replaced(recorded("oom") | {"origin": None}, HOSTILE)
    task.snapshot = snapshot

    screen.open(airflow.page(task))

    expect(screen.page.locator(".lane")).to_have_count(8)
    expect(screen.page.locator("h2")).to_have_text(HOSTILE)
    assert screen.page.locator("torchx-view img").count() == 0
    assert screen.page.evaluate("window.hacked") is None


def _replaced(value: Any, text: str) -> Any:  # noqa: ANN401 - any JSON
    """Return a snapshot with another text in place of each of its own, but for states."""
    if isinstance(value, dict):
        return {key: _replaced(one, text) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, text) for one in value]
    is_state = isinstance(value, str) and value.isupper()
    return text if isinstance(value, str) and not is_state and value != "oom" else value


def test_a_user_stops_an_app_by_a_dialog(airflow: PlayedAirflow, screen: Screen) -> None:
    """The dialog names what is stopped; the task is marked failed by Airflow's own API."""
    task = airflow.add("running")
    screen.open(airflow.page(task))

    screen.page.get_by_role("button", name="Stop app").click()
    expect(screen.page.get_by_role("dialog")).to_contain_text("Stop 9 replicas of train-nightly")
    assert [] == screen.violations()
    screen.page.get_by_role("button", name="Stop", exact=True).click()

    expect(screen.page.get_by_role("dialog")).to_be_hidden()
    expect(screen.page.get_by_role("button", name="Stop app")).to_be_hidden()
    assert "failed" == task.state


def test_an_app_that_ends_after_its_task_is_followed(
    airflow: PlayedAirflow, screen: Screen
) -> None:
    """A trigger stops an app after a user has ended the task, and the page shows that soon."""
    task = airflow.add("running", state="failed")
    screen.page.clock.install()
    screen.open(airflow.page(task))
    expect(screen.page.locator(".square[data-tone=running]")).not_to_have_count(0)
    assert task.snapshot is not None
    seq = task.snapshot["seq"] + 1
    task.snapshot = recorded("cancelled") | {"origin": None, "seq": seq}

    screen.page.clock.run_for(6_000)

    expect(screen.page.locator(".square[data-tone=running]")).to_have_count(0)


def test_a_user_who_may_not_stop_an_app_has_no_button(
    airflow: PlayedAirflow, screen: Screen
) -> None:
    """Airflow refuses the dry run of a viewer."""
    airflow.refusals["PATCH"] = 403
    screen.may_fail = True

    screen.open(airflow.page(airflow.add("running")))

    expect(screen.page.locator(".lane")).to_have_count(9)
    expect(screen.page.get_by_role("button", name="Stop app")).to_be_hidden()


def test_a_hidden_tab_asks_for_nothing(airflow: PlayedAirflow, screen: Screen) -> None:
    """A page in the background costs the API server nothing, and asks at once when it is shown.

    Nor does the log of a replica that runs.
    """
    screen.page.clock.install()
    screen.open(airflow.page(airflow.add("running")))
    with screen.page.expect_response(re.compile("/logs/1")):
        screen.page.locator(".lane").first.click()
    screen.page.evaluate(
        """() => {
          const ask = window.fetch;
          window.asked = 0;
          window.fetch = (...request) => {
            window.asked += 1;
            return ask(...request);
          };
          hideTab(true);
        }"""
    )

    screen.page.clock.run_for(600_000)
    hidden = screen.page.evaluate("asked")
    with screen.page.expect_response(re.compile("xcomEntries")):
        screen.page.evaluate("hideTab(false)")
    with screen.page.expect_response(re.compile("/logs/1")):
        screen.page.clock.run_for(11_000)

    assert 0 == hidden


def test_the_axis_begins_at_the_first_start_on_demand(
    airflow: PlayedAirflow, screen: Screen
) -> None:
    """The thin line before the start is gone, and a second click brings it back."""
    screen.open(airflow.page(airflow.add("succeeded", state="success")))
    waits = screen.page.locator(".lane").first.locator(".seg.wait")
    expect(waits).to_have_count(1)
    axis = screen.page.get_by_role("button", name="Axis from the first start")

    axis.click()

    expect(waits).to_have_count(0)
    axis.click()
    expect(waits).to_have_count(1)


def test_an_error_keeps_what_was_shown(airflow: PlayedAirflow, screen: Screen) -> None:
    """While Airflow does not answer, the page keeps its data and says how old it is."""
    screen.page.clock.install()
    screen.open(airflow.page(airflow.add("running")))
    expect(screen.page.locator(".lane")).to_have_count(9)
    airflow.refusals["taskInstances"] = 503
    screen.may_fail = True

    with screen.page.expect_response(re.compile("taskInstances")):
        screen.page.clock.run_for(6_000)

    expect(screen.page.get_by_text(re.compile("What is shown is .* old"))).to_be_visible()
    expect(screen.page.locator(".lane")).to_have_count(9)
    airflow.refusals.clear()
    with screen.page.expect_response(re.compile("xcomEntries")):
        screen.page.clock.run_for(31_000)
    expect(screen.page.get_by_text("What is shown is")).to_be_hidden()


def test_an_exception_is_one_line_of_the_page(airflow: PlayedAirflow, screen: Screen) -> None:
    """A fault in the view stays in its pane; the host page keeps working."""
    broken = "export const MAX_LANES = 1; export function visibleLanes() { return []; }\n"
    body = f'{broken}export function appView() {{ throw new Error("planted"); }}'
    screen.page.route(
        "**/model.js", lambda route: route.fulfill(body=body, content_type="text/javascript")
    )

    screen.open(airflow.page(airflow.add("running")))

    expect(screen.page.get_by_text("This app cannot be drawn: planted")).to_be_visible()


def test_an_update_touches_only_what_has_changed(airflow: PlayedAirflow, screen: Screen) -> None:
    """An update of one replica of an app that has ended changes nothing in the other lanes."""
    task = airflow.add("oom", state="failed")
    screen.page.clock.install()
    screen.open(airflow.page(task))
    expect(screen.page.locator(".lane")).to_have_count(8)
    screen.page.evaluate(
        """() => {
          window.touched = new Set();
          const root = document.querySelector("torchx-view").shadowRoot;
          new MutationObserver((all) => all.forEach((one) => {
            const element = one.target.closest ? one.target : one.target.parentElement;
            const lane = element.closest(".lane");
            if (lane) window.touched.add(lane.dataset.key);
          })).observe(root, {
            subtree: true, childList: true, attributes: true, characterData: true,
          });
        }"""
    )
    assert task.snapshot is not None
    task.snapshot["seq"] += 1
    task.snapshot["roles"][0]["replicas"][4]["exit"] = 9

    screen.page.clock.run_for(31_000)

    expect(screen.page.locator(".lane[data-key='trainer/4'] .end")).to_contain_text("exit 9")
    assert ["trainer/4"] == screen.page.evaluate("[...window.touched]")


def test_earlier_tries_are_beside_the_current_one(airflow: PlayedAirflow, screen: Screen) -> None:
    """Each try says how it ended; a click shows its app, with its log of that try."""
    screen.open(airflow.page(airflow.add("running", **RETRIED)))

    expect(screen.page.locator(".attempts button")).to_have_count(3)
    tries = screen.page.locator(".attempts button").all_inner_texts()
    screen.page.locator(".attempts button").first.click()

    assert [
        ("Try 1", "trainer/2 ran out of memory (limit 16 GiB) after 10 min 1 s."),
        ("Try 2", "trainer/1 failed with exit code 1 after 4 min 51 s."),
        ("Try 3", "running"),
    ] == [(one.split("\n")[0], one.split("\n")[-1]) for one in tries]
    expect(screen.page.locator(".failure h3")).to_contain_text("trainer/2 ran out of memory")
    expect(screen.page.get_by_role("button", name="Stop app")).to_be_hidden()


def test_a_task_of_another_operator_costs_one_request(
    airflow: PlayedAirflow, screen: Screen
) -> None:
    """The tab is on every task; of one that runs no app it says so."""
    task = PlayedTask(operator="PythonOperator")
    airflow.tasks.append(task)
    screen.stop_clock()

    screen.open(airflow.page(task))

    expect(screen.page.get_by_text("This task does not run a TorchX app.")).to_be_visible()
    assert 1 == len(airflow.requests)


def test_a_task_before_its_launch_says_so(airflow: PlayedAirflow, screen: Screen) -> None:
    """A queued task has no app; the page waits for one without an error in the console."""
    task = PlayedTask(state="queued")
    airflow.tasks.append(task)
    screen.page.clock.install()

    screen.open(airflow.page(task))

    expect(screen.page.get_by_text("No app yet. The task is queued.")).to_be_visible()
    task.snapshot, task.state = recorded("running") | {"origin": None}, "running"
    screen.page.clock.run_for(6_000)
    expect(screen.page.locator(".lane")).to_have_count(9)


def test_a_task_that_ended_before_its_launch_says_so(
    airflow: PlayedAirflow, screen: Screen
) -> None:
    """A task that failed without a snapshot has no app to wait for."""
    task = PlayedTask(state="failed")
    airflow.tasks.append(task)

    screen.open(airflow.page(task))

    expect(screen.page.get_by_text("it ended before a launch")).to_be_visible()
    expect(screen.page.get_by_role("button", name="Stop app")).to_be_hidden()


def test_an_old_snapshot_that_was_written_last(airflow: PlayedAirflow, screen: Screen) -> None:
    """The page of a task that has ended shows the last snapshot, not a triggerer's late one."""
    late = airflow.add("running", state="failed", store={"torchx_app:1": recorded("oom")})
    assert late.snapshot is not None
    late.snapshot |= {"app_id": recorded("oom")["app_id"], "writer": "trigger", "seq": 1}
    screen.page.clock.install()

    screen.open(airflow.page(late))

    expect(screen.page.locator(".failure h3")).to_contain_text("trainer/2 ran out of memory")
    expect(screen.page.locator(".lane")).to_have_count(8)
    with screen.page.expect_response(re.compile("xcomEntries/torchx_app")):
        screen.page.clock.run_for(31_000)
    expect(screen.page.locator(".failure h3")).to_contain_text("trainer/2 ran out of memory")
    assert 1 == sum(one.endswith("/state-store") for one in airflow.requests)


def test_a_task_whose_xcoms_are_gone(airflow: PlayedAirflow, screen: Screen) -> None:
    """The page of a task without XComs shows what is in its state store."""
    task = PlayedTask(state="failed", store={"torchx_app:1": recorded("oom")})
    airflow.tasks.append(task)

    screen.open(airflow.page(task))

    expect(screen.page.locator(".lane")).to_have_count(8)


def test_the_element_shows_the_task_that_its_attributes_name(
    airflow: PlayedAirflow, screen: Screen
) -> None:
    """Airflow keeps the element when its user chooses another task of the grid."""
    first, second = airflow.add("running"), airflow.add("oom", task_id="other", state="failed")
    screen.open(airflow.page(first))
    expect(screen.page.locator(".lane")).to_have_count(9)

    screen.page.locator("torchx-view").evaluate(
        "(view, name) => view.setAttribute('task-id', name)", second.task_id
    )

    expect(screen.page.locator(".lane")).to_have_count(8)
    expect(screen.page.get_by_role("button", name="Stop app")).to_be_hidden()


def test_a_snapshot_of_another_task_is_not_shown(airflow: PlayedAirflow, screen: Screen) -> None:
    """An answer that belongs to another task instance is dropped."""
    task = airflow.add("running", map_index=12)
    assert task.snapshot is not None
    task.snapshot["origin"] = {"map_index": 3}

    screen.open(airflow.page(task))

    expect(screen.page.get_by_text("No app yet.")).to_be_visible()


def test_a_mapped_task_under_a_sub_path_is_found(screen: Screen) -> None:
    """All addresses are relative to the host's base, and escape what a run id may have."""
    with PlayedAirflow("/airflow/") as airflow:
        task = airflow.add("running", map_index=12)

        screen.open(airflow.page(task))
        expect(screen.page.locator(".lane")).to_have_count(9)
        screen.open(airflow.page())

        path = (
            "dags/train_nightly/runs/manual__2026-11-24T03%3A00%3A00%2B00%3A00/tasks/gang/mapped/12"
        )
        expect(screen.page.get_by_role("link", name="gang [12]")).to_have_attribute(
            "href", f"{airflow.url}/airflow/{path}/plugin/torchx-app"
        )
