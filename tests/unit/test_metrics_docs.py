"""The page of metrics and traces, and the dashboard, have the names that a task sends."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
import yaml

from airflow_torchx.core.task.metrics import (
    ATTRIBUTES,
    METRICS,
    PHASES,
    TAGS,
    duration_name,
    span_name,
)
from airflow_torchx.specs import AppState
from tests import pages

PAGE: Final = "metrics-and-traces.md"
DASHBOARD: Final = json.loads((pages.ROOT / "docs" / "grafana-dashboard.json").read_text())
TARGETS: Final = [
    (panel["title"], target) for panel in DASHBOARD["panels"] for target in panel["targets"]
]
#: What Prometheus appends to the name of a histogram.
SERIES: Final = re.compile(r"_(bucket|sum|count)$")


def section(heading: str) -> str:
    """Return the text below a heading of the page, up to the next one."""
    text = (pages.ROOT / "docs" / PAGE).read_text()
    (found,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    return str(found)


def exported(name: str) -> tuple[str, dict[str, str]]:
    """Return name and labels that statsd_exporter gives a metric, with the mapping of the page."""
    (block,) = pages.blocks("yaml", pages.ROOT / "docs" / PAGE)
    for rule in yaml.safe_load(block.text)["mappings"]:
        pattern = re.escape(rule["match"]).replace(r"\*", r"([^.]+)")
        if found := re.fullmatch(pattern, f"airflow.{name}"):
            parts = found.groups()

            def filled(text: str, parts: tuple[str, ...] = parts) -> str:
                return re.sub(r"\$\{?(\d)\}?", lambda match: parts[int(match[1]) - 1], text)

            labels = rule.get("labels", {})
            return filled(rule["name"]), {key: filled(text) for key, text in labels.items()}
    pytest.fail(f"no mapping for {name}")


def test_the_table_of_metrics() -> None:
    """The page lists name, kind and tag of each metric."""
    rows = re.findall(r"^\| `(\S+)` \| (\w+) \| (?:`(\w+)` )?\|", section("Metrics"), re.MULTILINE)

    assert [(one.name, one.kind, one.tag) for one in METRICS] == rows


def test_the_table_of_tags() -> None:
    """The page lists the tags that all metrics have."""
    assert [*TAGS] == re.findall(r"`(\w+)`", " ".join(pages.first_cells(PAGE, "Tags")))


def test_the_table_of_spans() -> None:
    """The page lists all spans, and names all attributes."""
    names = re.findall(r"`([\w.]+)`", " ".join(pages.first_cells(PAGE, "Spans")))
    attributes = set(re.findall(r"`((?:torchx\.app|container|error)\.[\w.]+)`", section("Spans")))

    assert [span_name(phase) for phase in PHASES] == names
    assert attributes == ATTRIBUTES


def test_the_mapping_keeps_values_apart() -> None:
    """State, rule and phase become labels, and each other counter has a name of its own."""
    finished = [exported(f"torchx.app.finished.{state}") for state in ("FAILED", "SUCCEEDED")]
    name = "airflow_torchx_app_finished_total"
    assert [(name, {"state": "FAILED"}), (name, {"state": "SUCCEEDED"})] == finished
    rule = ("airflow_torchx_failure_rule_total", {"rule": "gpu_lost"})
    assert rule == exported("torchx.failure_rule.gpu_lost")
    timed = ("airflow_torchx_duration_seconds", {"phase": "gpu_wait"})
    assert timed == exported(duration_name("gpu_wait"))
    others = [exported(one.name)[0] for one in METRICS if one.kind == "counter" and not one.tag]
    assert len({*others}) == len(others)


def test_the_dashboard_has_what_grafana_needs() -> None:
    """Grafana accepts a dashboard with a schema version, unique ids, and panels with targets."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]

    assert isinstance(DASHBOARD["schemaVersion"], int)
    assert DASHBOARD["title"]
    assert len({*ids}) == len(ids)
    for panel in DASHBOARD["panels"]:
        assert {"title", "type", "gridPos", "targets", "datasource"} <= panel.keys()
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted({*letters})
        assert letters


def test_panels_do_not_overlap() -> None:
    """Each panel has a place of its own on the 24 columns of the dashboard."""
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]

    assert len({*cells}) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_the_dashboard_shows_all_counters_and_what_takes_long() -> None:
    """It has a panel for each counter, for launches, images, and the wait for GPUs."""
    shown = " ".join(target["expr"] for _, target in TARGETS)
    counters = {exported(one.name)[0] for one in METRICS if one.kind == "counter"}

    assert [] == [name for name in counters if name not in shown]
    for phase in ("launch", "build", "push", "pull", "gpu_wait"):
        assert re.search(rf'phase=~?"[^"]*\b{phase}\b', shown), phase


@pytest.mark.parametrize(("title", "target"), TARGETS)
def test_the_names_of_the_dashboard(title: str, target: dict[str, Any]) -> None:
    """Each name and label of an expression is one that statsd_exporter makes of our metrics."""
    values = {"STATE": str(AppState.FAILED), "rule": "gpu_lost"}
    made: dict[str, set[str]] = {}
    for one in METRICS:
        name = re.sub(r"<(\w+)>", lambda match: values[match[1]], one.name)
        series, labels = exported(name)
        made.setdefault(series, set()).update({*TAGS, "le"}, labels)
    expr = target["expr"]
    used = {SERIES.sub("", name) for name in re.findall(r"\bairflow_torchx_\w+", expr)}
    grouped = re.findall(r"by \(([^)]*)\)", expr)
    labels_used = {
        *re.findall(r"(\w+)=~?\"", expr),
        *(label.strip() for group in grouped for label in group.split(",")),
        *re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]),
    }
    phases = {one for found in re.findall(r'phase=~?"([^"]*)"', expr) for one in found.split("|")}

    assert used, title
    assert used <= made.keys()
    assert all(labels_used <= made[name] for name in used)
    assert phases <= {*PHASES}


def test_the_variables_of_the_dashboard() -> None:
    """Each variable of an expression is defined, and its query has one of our names."""
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    used = {name for _, one in TARGETS for name in re.findall(r"\$([a-z]\w*)", one["expr"])}

    assert used <= variables.keys()
    launched, _ = exported("torchx.app.launched")
    assert f"label_values({launched}, dag_id)" == variables["dag_id"]["query"]["query"]
