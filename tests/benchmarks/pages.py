"""How long the page of an app takes to redraw in Chromium."""

from __future__ import annotations

import json
import shutil
import statistics
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from tests.benchmarks.comparison import Comparison, console
from tests.ui.browser import FLAGS
from tests.ui.played_airflow import PlayedAirflow, PlayedTask, recorded

if TYPE_CHECKING:
    import docker
    from playwright.sync_api import Page

ROUNDS: Final = 15
#: Milliseconds that a redraw may take at the median, by the number of replicas: a frame of a
#: screen, and what a reader does not notice.
BOUNDS_MS: Final = {64: 16.0, 1024: 100.0}
#: Draws each snapshot, with its layout, and returns milliseconds. An update reads a new snapshot
#: and draws what has changed; a full redraw makes all nodes of the lanes.
_MEASURE: Final = """async ([texts, isFull]) => {
  const { readSnapshot } = await import("/static/snapshot.js");
  const { Lanes } = await import("/static/lanes.js");
  const page = document.querySelector("torchx-view").page;
  page.poller.stop();
  const took = [];
  for (const text of texts) {
    const began = performance.now();
    page.current = readSnapshot(text);
    page.nowS = page.current.observed_at;
    if (isFull) {
      const before = page.lanes.node;
      page.lanes = new Lanes(() => {});
      before.replaceWith(page.lanes.node);
    }
    page.draw();
    page.node.getBoundingClientRect();
    took.push(performance.now() - began);
  }
  return took;
}"""

results = Comparison("redraws of the page; medians")


def redraws(_: docker.APIClient) -> None:
    """Compare an update of a page with a full redraw, and with what it may take."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        console.print("no chromium: run container/chromium.sh")
        return
    with sync_playwright() as playwright, PlayedAirflow() as airflow:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        for count, bound_ms in BOUNDS_MS.items():
            task = PlayedTask(task_id=f"gang_{count}", snapshot=_snapshot(count, 0))
            airflow.tasks.append(task)
            page.goto(airflow.page(task))
            page.locator(".square").nth(count - 1).wait_for()
            update, full = _median(page, count, is_full=False), _median(page, count, is_full=True)
            what = f"update of {count} replicas"
            results.row(f"{what} / full redraw, ms", update, full, "at most", 1.0)
            results.row(f"{what} / {bound_ms:g} ms", update, bound_ms, "at most", 1.0)
        browser.close()


def _median(page: Page, count: int, *, is_full: bool) -> float:
    """Return the median of draws, without the first ones, which compile the code."""
    # As texts: Playwright takes minutes for so many values.
    snapshots = [json.dumps(_snapshot(count, tick)) for tick in range(1, ROUNDS + 6)]
    took: list[float] = page.evaluate(_MEASURE, [snapshots, is_full])
    return statistics.median(took[5:])


def _snapshot(count: int, tick: int) -> dict[str, Any]:
    """Return a snapshot of an app that runs; each tick changes the usage of a tenth of it."""
    snapshot = recorded("running") | {"origin": None, "n_replicas": count}
    role = snapshot["roles"][0]
    first = role["replicas"][0]
    role["replicas"] = [deepcopy(first) | {"id": number} for number in range(count)]
    for number in range(tick % 10, count, 10):
        cpus = role["replicas"][number]["usage"]["cpu"]
        cpus[-1] = round(cpus[-1] + tick / 100, 2)
    snapshot |= {"seq": tick + 7, "roles": [role | {"n": count, "counts": {"RUNNING": count}}]}
    snapshot["observed_at"] += 5 * tick
    return snapshot
