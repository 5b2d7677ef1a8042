"""The page in a whole Airflow, in a browser: apps in each state, users with and without rights."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import expect

from tests.airflow.gate import Hold, Kind
from tests.airflow.page_apps import PageApps
from tests.conftest import require_docker
from tests.ui.browser import Screen, open_screen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Locator

    from tests.airflow.conftest import _WholeAirflow
    from tests.airflow.gate import Gate
    from tests.airflow.stack import Stack, Task

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

#: A page of Airflow's needs seconds of a core.
_PATIENCE_MS: Final = 60_000
#: Of a lane, as a word.
_STATE: Final = ".lane-state .glyph + span"


@pytest.fixture(scope="module")
def running(whole_airflow: _WholeAirflow) -> Iterator[PageApps]:
    """Return apps in all states, the same for all tests."""
    expect.set_options(timeout=_PATIENCE_MS)
    with require_docker() as engine, PageApps(whole_airflow.started(), engine) as apps:
        yield apps


@pytest.fixture
def apps(stack: Stack, running: PageApps) -> PageApps:
    """Return apps in all states, for a test that runs beside the other ones of this Airflow."""
    assert stack is running.stack
    return running


@pytest.fixture
def log_in(browser: Browser, apps: PageApps) -> Iterator[Callable[[str], Screen]]:
    """Return what opens a tab of the browser for a user; its console stays without errors."""
    with ExitStack() as tabs:
        yield lambda user: tabs.enter_context(_tab_of(browser, apps, user))


@contextmanager
def _tab_of(browser: Browser, apps: PageApps, user: str) -> Iterator[Screen]:
    address = urlsplit(apps.front.url)
    host, token = str(address.hostname), apps.front.token(user)
    with open_screen(browser) as screen:
        screen.page.context.add_cookies(
            [{"name": "_token", "value": token, "domain": host, "path": address.path}]
        )
        screen.page.set_default_timeout(_PATIENCE_MS)
        yield screen


def _path(task: Task) -> str:
    run = quote(task.run_id, safe="")
    index = "" if task.map_index < 0 else f"/mapped/{task.map_index}"
    return f"dags/{task.dag_id}/runs/{run}/tasks/{task.task_id}{index}/plugin/torchx-app"


def _view(screen: Screen) -> Locator:
    return screen.page.locator("torchx-view")


def _show(screen: Screen, name: str) -> None:
    """Check the view by axe-core, and keep a picture of the whole page."""
    assert [] == screen.violations("torchx-view")
    _view(screen).evaluate("view => view.scrollTo(0, 0)")
    screen.take_picture(name)


def _summary(screen: Screen) -> Locator:
    return _view(screen).locator("h2 + span + span")


def test_a_failed_app_from_the_list_to_a_log_and_back(
    apps: PageApps, stack: Stack, screen: Screen
) -> None:
    """A reader filters the list, opens the tab of a task, and sees which replica ran out of memory.

    It is the only red one; its peers are grey. The tab is right in both themes.
    """
    screen.page.set_default_timeout(_PATIENCE_MS)
    view, task = _view(screen), apps.failed
    row = view.locator("tbody tr").filter(has_text=task.run_id)
    culprit = view.locator(".lane[data-key='trainer/2']")

    screen.open(f"{stack.url}/plugin/torchx")
    view.get_by_label("DAG").fill("train_nightly")
    expect(screen.page).to_have_url(re.compile(r"/plugin/torchx\?dag=train_nightly$"))
    row.get_by_role("link").click()
    culprit.click()

    expect(view.locator(".log pre")).to_contain_text("step 20/5000")
    assert f"{stack.url}/{_path(task)}" == screen.page.url
    _assert_out_of_memory(view)
    culprit.click()
    _show(screen, "airflow-failed")
    screen.page.go_back()
    expect(row).to_have_count(1)
    screen.take_picture("airflow-list")
    screen.page.add_init_script("localStorage.setItem('theme', 'dark')")
    screen.open(f"{stack.url}/{_path(task)}")
    expect(view.locator(".lane")).to_have_count(5)
    _show(screen, "airflow-failed-dark")
    assert [] == stack.get("plugins/importErrors")["import_errors"]


def _assert_out_of_memory(view: Locator) -> None:
    sentence = re.compile(r"^trainer/2 ran out of memory \(limit 128 MiB\) after \d+.* s\.$")
    expect(view.locator(".failure h3")).to_have_text(sentence)
    expect(view.locator(".failure pre")).to_contain_text("/5000 loss 0.")
    expect(view.locator(".role-name")).to_have_text(["trainer", "reader"])
    for tone, count in (("failed", 1), ("removed", 4)):
        expect(view.locator(f".square[data-tone={tone}]")).to_have_count(count)
    lane = view.locator(".lane[data-key='trainer/2']")
    expect(lane.locator(_STATE)).to_have_text("failed")
    expect(lane.locator(".end")).to_contain_text("exit 137, SIGKILL, out of memory")
    expect(lane.locator(".took")).to_have_text(re.compile(r"\d"))
    expect(view.locator(".lane .mark:not([hidden])")).to_have_count(5)
    expect(view.locator(".lane .seg:not(.wait)")).to_have_count(5)


@pytest.mark.parametrize(
    ("name", "scheme", "count"), [("running", "light", 5), ("deferred", "dark", 2)]
)
def test_a_user_stops_an_app(
    apps: PageApps, log_in: Callable[[str], Screen], name: str, scheme: str, count: int
) -> None:
    """A viewer has no button and is refused; a user stops the app by name, and the page shows it.

    All replicas are cancelled, so none is red. Airflow's audit log names the user.
    """
    task: Task = getattr(apps, name)
    viewer, user = log_in("vic"), log_in("mara")
    viewer.may_fail = True
    _without_docker(viewer)
    for screen in (viewer, user):
        screen.page.add_init_script(f"localStorage.setItem('theme', '{scheme}')")
        # Both at once: each takes seconds.
        screen.page.goto(f"{apps.front.url}/{_path(task)}", wait_until="commit")
    for screen in (viewer, user):
        expect(_view(screen).locator(_STATE)).to_have_text(["running"] * count)

    expect(_stop_button(user)).to_be_visible()
    assert _stop_button(viewer).is_hidden()
    assert 403 == apps.front.status("vic", "PATCH", _instance(task), {"new_state": "failed"})
    assert name == task.state()
    _show(user, f"airflow-{name}")
    _assert_live_log(user)
    _stop(user, f"Stop {count} replicas of {task.xcom('torchx_app')['app_id']}?")

    for screen in (viewer, user):
        expect(_view(screen).locator(_STATE)).to_have_text(["cancelled"] * count)
        expect(_view(screen).locator(".square[data-tone=removed]")).to_have_count(count)
    expect(_stop_button(user)).to_be_hidden()
    assert "failed" == task.state()
    _show(user, f"airflow-{name}-cancelled")
    assert ("patch_task_instance", "mara") in _audit_log(task)


def _assert_live_log(screen: Screen) -> None:
    """Read the log of a replica from Docker, before its task writes it."""
    view = _view(screen)
    lane = view.locator(".lane[data-key='trainer/1']")
    lane.click()
    expect(view.get_by_text(re.compile(r"\d+ lines, from Docker$"))).to_be_visible()
    expect(view.locator(".log pre")).to_contain_text("step 20/5000 loss 0.")
    lane.click()


def _without_docker(screen: Screen) -> None:
    """Have a page find an API server without Docker access, which is what most sites have."""
    screen.page.route(
        "**/torchx/features",
        lambda route: route.fulfill(
            body='{"docker_access": false}', content_type="application/json"
        ),
    )


def _stop_button(screen: Screen) -> Locator:
    return _view(screen).get_by_role("button", name="Stop app")


def _stop(screen: Screen, question: str) -> None:
    _stop_button(screen).click()
    dialog = _view(screen).get_by_role("dialog")
    expect(dialog).to_contain_text(question)
    dialog.get_by_role("button", name="Stop", exact=True).click()


def _audit_log(task: Task) -> set[tuple[str, str]]:
    """Return what users did about a run, by Airflow's audit log: events and names."""
    found = task.stack.get("eventLogs", dag_id=task.dag_id, run_id=task.run_id)["event_logs"]
    return {(one["event"], one["owner"]) for one in found}


def test_an_api_server_that_restarts_below_an_open_page(
    apps: PageApps, log_in: Callable[[str], Screen]
) -> None:
    """The page keeps a retried app, says how old that is, and shows its end after the restart.

    The earlier try is beside the current one all the time.
    """
    screen, task = log_in("vic"), apps.retried
    view = _view(screen)
    tries = view.locator(".attempts button")
    age = view.get_by_text(re.compile("Airflow does not answer .* What is shown is .* old"))
    screen.may_fail = True
    screen.open(f"{apps.front.url}/{_path(task)}")
    expect(_summary(screen)).to_have_text("3 replicas \N{MIDDLE DOT} 3 running")
    expect(tries).to_have_count(2)
    expect(tries.first).to_contain_text("trainer/1 failed with exit code 1 after")
    _show(screen, "airflow-retried")

    with apps.front.away():
        expect(age).to_be_visible()
        assert 3 == view.locator(".lane").count()
    apps.let_end(task)
    apps.front.wait()
    # It would ask again within half a minute.
    screen.page.evaluate("hideTab(true); hideTab(false)")

    expect(_summary(screen)).to_have_text("3 replicas \N{MIDDLE DOT} 3 succeeded")
    expect(age).to_be_hidden()
    assert 2 == tries.count()
    _show(screen, "airflow-succeeded")


def test_a_succeeded_app_of_a_mapped_task_by_keys_and_on_small_screens(
    apps: PageApps, log_in: Callable[[str], Screen]
) -> None:
    """Arrow keys move along the lanes and leave Airflow's own page alone; a log line is a text.

    Nothing is wider than the pane at 640 pixels and at 200 %, under a brand of Airflow's theme.
    """
    screen, task = log_in("mara"), apps.succeeded
    view, address = _view(screen), f"{apps.front.url}/{_path(task)}"
    screen.page.emulate_media(reduced_motion="reduce")
    screen.open(address)
    expect(_summary(screen)).to_have_text("2 replicas \N{MIDDLE DOT} 2 succeeded")
    brand = (
        "getComputedStyle(document.documentElement).getPropertyValue('--chakra-colors-brand-500')"
    )
    assert "0.11 190" in screen.page.evaluate(brand)

    view.locator(".lane").first.focus()
    for key in ("ArrowDown", "Enter"):
        screen.page.keyboard.press(key)

    expect(view.locator(".log h3")).to_have_text(re.compile(r"^Log of trainer/1, try \d$"))
    expect(view.locator(".log pre")).to_contain_text('<img src=x onerror="window.hacked=1"> done')
    assert address == screen.page.url
    assert screen.page.evaluate("window.hacked") is None
    # 700 pixels are what is left of 1400 at 200 %.
    for width, height in ((640, 900), (700, 450)):
        screen.page.set_viewport_size({"width": width, "height": height})
        expect(view.locator(".lane").first).to_be_visible()
        assert view.evaluate("view => view.scrollWidth <= view.clientWidth")
        screen.take_picture(f"airflow-{width}")
    motion = "view => getComputedStyle(view.shadowRoot.querySelector('.done')).transitionDuration"
    assert "0s" == view.evaluate(motion)
    assert [] == screen.violations("torchx-view")


def test_a_user_who_may_read_one_dag(apps: PageApps, log_in: Callable[[str], Screen]) -> None:
    """The list has no row of another DAG, the tab of its task is refused, and so is all data.

    A request without a login is refused, too.
    """
    screen, other, own = log_in("ana"), apps.succeeded, apps.failed
    screen.may_fail = True
    screen.open(f"{apps.front.url}/plugin/torchx")
    dags = _view(screen).locator("tbody td:nth-child(3)")
    expect(dags).to_have_text(["train_nightly"] * 2)

    screen.open(f"{apps.front.url}/{_path(other)}")

    refusal = _view(screen).get_by_role("status")
    expect(refusal).to_have_text(re.compile("^You may not read this task. Ask for the right"))
    screen.take_picture("airflow-refused")
    assert "trainer" not in screen.page.locator("body").inner_text()
    assert {403} == set(_statuses(apps, "ana", other).values())
    assert {401} == set(_statuses(apps, None, own).values())
    allowed = _statuses(apps, "ana", own)
    # Its containers are gone.
    assert [404] == [status for path, status in allowed.items() if "/logs?" in path]
    assert {200} == {status for path, status in allowed.items() if "/logs?" not in path}


def _instance(task: Task) -> str:
    index = "" if task.map_index < 0 else f"/{task.map_index}"
    run = quote(task.run_id, safe="")
    return f"api/v2/dags/{task.dag_id}/dagRuns/{run}/taskInstances/{task.task_id}{index}"


def _statuses(apps: PageApps, user: str | None, task: Task) -> dict[str, int]:
    """Return what Airflow answers to each request of the page that is about a task."""
    of_task = _instance(task).removesuffix(f"/{task.map_index}")
    index = f"map_index={task.map_index}"
    paths = [
        _instance(task),
        f"{_instance(task)}/tries",
        f"{of_task}/xcomEntries?xcom_key=torchx_app&{index}",
        f"{of_task}/xcomEntries/torchx_app?deserialize=true&{index}",
        f"{of_task}/state-store?{index}",
        f"{of_task}/logs/1?{index}",
    ]
    found = {path: apps.front.status(user, "GET", path) for path in paths}
    dry_run = f"{_instance(task)}/dry_run"
    live = f"torchx/api/v1/{task.dag_id}/{quote(task.run_id, safe='')}/{task.task_id}"
    query = f"handle={quote(task.xcom('torchx_app')['handle'], safe='')}&role=trainer&replica=0"
    for kind in ("live", "stats", "logs"):
        path = f"{live}/{task.map_index}/{kind}?{query}&dag_id=train_nightly"
        found[path] = apps.front.status(user, "GET", path)
    return found | {dry_run: apps.front.status(user, "PATCH", dry_run, {"new_state": "failed"})}


def test_a_daemon_that_hangs(apps: PageApps, gate: Gate) -> None:
    """A route that reads from Docker gives up with 504; the API server answers others meanwhile."""
    task = apps.retried
    handle = quote(task.xcom("torchx_app")["handle"], safe="")
    run = quote(task.run_id, safe="")
    path = f"torchx/api/v1/{task.dag_id}/{run}/{task.task_id}/-1/live?handle={handle}"
    hold = gate.hold(Hold(Kind.LIST, of=apps.front.owns))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(apps.front.status, "vic", "GET", path)
        hold.wait()

        statuses = {apps.front.status(None, "GET", "api/v2/version") for _ in range(4)}

        assert ({200}, 504) == (statuses, answer.result())


def test_a_fault_of_the_view_below_airflow(apps: PageApps, log_in: Callable[[str], Screen]) -> None:
    """An exception is one line in the pane; the rest of Airflow goes on."""
    screen = log_in("mara")
    broken = "export const MAX_LANES = 1; export function visibleLanes() { return []; }\n"
    body = f'{broken}export function appView() {{ throw new Error("planted"); }}'
    screen.page.route(
        "**/model.js", lambda route: route.fulfill(body=body, content_type="text/javascript")
    )

    screen.open(f"{apps.front.url}/{_path(apps.failed)}")

    expect(_view(screen).get_by_text("This app cannot be drawn: planted")).to_be_visible()
    screen.page.get_by_role("tab", name="Details").or_(
        screen.page.get_by_role("link", name="Details")
    ).first.click()
    expect(screen.page.get_by_text("TorchXDockerOperator").first).to_be_visible()
