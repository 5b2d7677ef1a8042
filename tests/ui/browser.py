"""A browser for tests, and its tabs."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.conftest import do_without

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Page, Route

ROOT: Final = Path(__file__).parents[2]
AXE: Final = ROOT / ".cache/node/node_modules/axe-core/axe.min.js"
#: Screenshots, to be looked at; none is compared.
PICTURES: Final = ROOT / ".cache/page"
FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: An answer of the page is waited for. Its first data of Docker comes after three requests, one
#: after another; with 0.7 s for each request of the page, that took more than Playwright's own 5 s.
PATIENCE_MS: Final = 60_000
#: Where the modules of Airflow's own page are.
_OF_HOST: Final = "/static/assets/index-"
#: Lets a test hide the browser tab.
_VISIBILITY: Final = """
Object.defineProperty(document, "visibilityState", {
  get: () => (window.isHidden ? "hidden" : "visible"),
});
window.hideTab = (isHidden) => {
  window.isHidden = isHidden;
  document.dispatchEvent(new Event("visibilitychange"));
};
"""


class Screen:
    """A tab of the browser with the page; an error in its console fails the test.

    Args:
        page: Playwright's own.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        #: What the console has said.
        self.errors: list[str] = []
        #: Whether the test refuses requests, or has a page ask for what is not there.
        self.may_fail = False
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note)
        page.add_init_script(_VISIBILITY)

    def _note(self, message: ConsoleMessage) -> None:
        url = message.location["url"]
        # Airflow's own page reports what it could not fetch.
        is_refusal = message.text.startswith("Failed to load resource") or _OF_HOST in url
        if message.type == "error" and not (is_refusal and self.may_fail):
            self.errors.append(f"{message.text} ({url})")

    def open(self, url: str) -> None:
        """Open an address."""
        self.page.goto(url)

    def stop_clock(self) -> None:
        """Let time pass in pages only by `clock.run_for`; Playwright's own clock goes on."""
        self.page.clock.install()
        self.page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))

    def violations(self, selector: str = "html") -> list[str]:
        """Return what axe-core finds in an element, as one line for each rule and node."""
        self.page.add_script_tag(path=AXE)
        script = "(selector) => axe.run(selector).then((result) => result.violations)"
        found: Any = self.page.evaluate(script, selector)
        return [
            f"{one['id']}: {json.dumps(node['target'])}" for one in found for node in one["nodes"]
        ]

    def take_picture(self, name: str, selector: str = "") -> None:
        """Keep a picture of the page, or of an element, in .cache/page."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        path = PICTURES / f"{name}.png"
        if selector:
            self.page.locator(selector).screenshot(path=path)
        else:
            self.page.screenshot(path=path)


#: A daemon beside other tests may need longer than the 4.5 s that the API server lets it.
_LATE: Final = 3


def _fetch(route: Route) -> None:
    """Answer a request of the browser from outside of it.

    Chromium aborts its own requests when a network interface comes or goes, which is whenever a
    container does: net::ERR_NETWORK_CHANGED.
    """
    from playwright.sync_api import Error

    # A page that is left while its request is answered takes no answer.
    with suppress(Error):
        try:
            response = route.fetch(max_redirects=0, timeout=PATIENCE_MS)
            for _ in range(_LATE):
                if response.status != HTTPStatus.GATEWAY_TIMEOUT:
                    break
                response = route.fetch(max_redirects=0, timeout=PATIENCE_MS)
            route.fulfill(response=response)
        except Error:
            route.abort()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a browser; tests that need it are skipped without one, and fail in CI.

    It is closed after each module, because its event loop runs until then, and another test of this
    process may start one.
    """
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    chromium = shutil.which("chromium")
    if chromium is None:
        do_without("no chromium: run container/chromium.sh")
    if not AXE.exists():
        do_without("no axe-core: run container/node.sh")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def open_screen(browser: Browser) -> Iterator[Screen]:
    """Return a tab of 1400 to 900 pixels with own cookies, whose console stays without errors."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    context.route("**/*", _fetch)
    screen = Screen(context.new_page())
    yield screen
    context.close()

    assert [] == screen.errors, screen.errors


@pytest.fixture
def screen(browser: Browser) -> Iterator[Screen]:
    """Return a tab of the browser."""
    with open_screen(browser) as screen:
        yield screen
