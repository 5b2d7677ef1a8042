"""How far a program is, from whatever it has written."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_torchx.core.state.progress import Progress, left_text, merged, progress_replica
from airflow_torchx.core.state.progress_report import (
    MOST_LINES,
    LineSearch,
    Report,
    last_report,
    make_report,
)
from airflow_torchx.specs import AppState, DescribeAppResponse, ReplicaStatus, RoleStatus

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
HOSTILE = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("step", "total", "metrics", "at", "first"), ANY_JSON)
)
COUNTS = st.integers(0, 10**14) | st.floats(0, 1e14)
REPORTS = st.builds(Report, step=COUNTS, total=st.none() | COUNTS.filter(lambda n: n > 0))


def never() -> float:
    """Return a time that does not pass."""
    return 0.0


def line(**fields: object) -> bytes:
    """Return a line of a file."""
    return json.dumps(fields).encode() + b"\n"


def strict(data: object) -> str:
    """Return data as JSON, which Airflow's API accepts."""
    return json.dumps(data, allow_nan=False, ensure_ascii=False)


def test_the_last_line_counts() -> None:
    """The last complete line of a file says how far its program is."""
    content = line(step=1) + line(step=1200, total=5000, metrics={"loss": 0.31}) + b'{"step": 12'

    assert Report(step=1200, total=5000, metrics={"loss": 0.31}) == last_report(content)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\n\n",
        b"\x00\xff\xfe",
        b"null\n[]\n3\n",
        b'{"step": "7"}\n',
        b'{"step": true}\n',
        b'{"step": NaN}\n',
        b'{"step": -1}\n',
        b'{"step": 1e999}\n',
        b'{"step": 1000000000000000}\n',
        b'{"step": ' + b"9" * 5000 + b"}\n",
        b"[" * 100_000,
    ],
)
def test_garbage(garbage: bytes) -> None:
    """Lines that are not reports are ignored: the last report before them counts."""
    assert last_report(garbage) is None
    assert Report(step=5) == last_report(line(step=5) + garbage)


def test_garbage_is_searched_to_an_end() -> None:
    """Of the lines at the end of a file, only some are read."""
    assert last_report(line(step=1) + b"x\n" * MOST_LINES) is None
    for is_cut in (False, True):
        empty = b"\n" + line(step=1) + b"\n \n" * MOST_LINES
        assert Report(step=1) == last_report(empty, is_cut=is_cut)


def test_the_end_of_a_large_file() -> None:
    """The first line of a part of a file may be incomplete, and does not count."""
    assert last_report(b'{"step": 3}', is_cut=True) is None
    assert Report(step=4) == last_report(b'{"step": 3}\n{"step": 4}\n', is_cut=True)


def test_metrics() -> None:
    """Metrics are finite numbers with short names; others are left out, and so are most of many."""
    metrics = {
        "loss": 0.123456789,
        "eval/acc.top-1": 1,
        "nan": math.nan,
        "text": "x",
        "yes": True,
        "my secret": 1,
        "x" * 41: 1,
        "größe": 1,
        3: 1,
    }

    found = make_report(1, None, metrics)
    many = make_report(1, None, {f"m{index}": index for index in range(99)})

    assert found is not None
    assert {"loss": 0.123457, "eval/acc.top-1": 1} == found.metrics
    assert many is not None
    assert 12 == len(many.metrics)


def test_a_total_that_cannot_be_used() -> None:
    """A step counts without its total."""
    for total in (0, -1, "9", math.nan, None, True):
        assert Report(step=1) == make_report(1, total, None)


@given(st.binary(max_size=300) | st.builds(lambda one: json.dumps(one).encode(), HOSTILE))
def test_any_file(content: bytes) -> None:
    """Whatever a file has, it raises nothing, and what is found can be shown and stored."""
    found = last_report(content)

    if found is not None:
        progress = merged(None, found, "c" * 64, 5.0)
        strict(progress.stored())
        assert "\n" not in progress.text(6.0)
        assert progress.text(6.0).isprintable()


@given(HOSTILE)
def test_any_stored_progress(stored: dict[str, Any]) -> None:
    """What another release stored is used, or not; it raises nothing."""
    found = Progress.parse(stored)

    if found is not None:
        assert found.eta_s is None or 0 <= found.eta_s < math.inf
        assert found == Progress.parse(json.loads(strict(found.stored())))


@given(st.lists(st.tuples(REPORTS, st.sampled_from("ab"), st.floats(0, 2e9)), min_size=1))
def test_any_history(seen: list[tuple[Report, str, float]]) -> None:
    """Steps that go back, restarts and clocks that differ leave an estimate that makes sense."""
    progress = None
    for report, container, now_s in seen:
        progress = merged(progress, report, container, now_s)
        assert report == progress.report
        assert progress.first_step <= report.step
        assert progress.first_s <= progress.at_s
        assert progress.eta_s is None or 0 < progress.eta_s < math.inf
        strict(progress.to_json())


def steps(*seen: tuple[float, float], container: str = "a") -> Progress:
    """Return the progress to 5000 steps after some pairs of step and time."""
    progress = None
    for step, at_s in seen:
        progress = merged(progress, Report(step=step, total=5000), container, at_s)
    assert progress is not None
    return progress


def test_an_estimate() -> None:
    """It comes from the rate since the first step that was seen, not since step 0."""
    progress = steps((1000, 100), (1100, 150), (1200, 300))

    assert 3800 == progress.eta_s
    assert "step 1200/5000, about 1 h 3 min left" == progress.text(300)
    assert "step 1200/5000, about 13 min left" == progress.text(3300)
    assert "step 1200/5000" == progress.text(9000)


def test_no_estimate() -> None:
    """Without a rate or a total, or at the end, the time left is unknown."""
    assert steps((10, 5)).eta_s is None
    assert steps((10, 5), (10, 60)).eta_s is None
    assert steps((10, 5), (20, 5)).eta_s is None
    assert steps((10, 5), (5000, 60)).eta_s is None
    assert steps((10, 5), (6000, 60)).eta_s is None
    assert merged(steps((1, 1)), Report(step=2), "a", 9).eta_s is None
    assert steps((0, 0), (1, 10**6)).eta_s is None  # 158 years


@pytest.mark.parametrize("first_step", [20, 21, None])
def test_a_stored_estimate_that_cannot_be(first_step: int | None) -> None:
    """A first step that is not before the last one gives no estimate."""
    stored = {"step": 20, "total": 90, "at": 7, "first": {"step": first_step, "at": 5}}

    found = Progress.parse(stored)

    assert found is not None
    assert found.eta_s is None


def test_a_clock_that_is_behind() -> None:
    """A reader whose clock is behind the time of the step shows the estimate of the step."""
    assert "step 20/5000, about 1 h 23 min left" == steps((10, 0), (20, 10)).text(-500)


def test_a_step_that_goes_back() -> None:
    """A run that begins again has an estimate of its own."""
    progress = steps((4000, 0), (4900, 100), (100, 200), (200, 210))

    assert (100, 200) == (progress.first_step, progress.first_s)
    assert 480 == progress.eta_s


def test_a_new_round() -> None:
    """A new container begins again, although it continues at a later step."""
    progress = merged(steps((10, 0), (20, 10)), Report(step=30, total=5000), "b", 500)

    assert (30, 500, None) == (progress.first_step, progress.first_s, progress.eta_s)


def test_a_step_that_stays() -> None:
    """New metrics of a step do not make the program look slower."""
    before = steps((10, 0), (20, 10))

    after = merged(before, Report(step=20, total=5000, metrics={"loss": 1.0}), "a", 500)

    assert (10, {"loss": 1.0}) == (after.at_s, after.report.metrics)


@pytest.mark.parametrize(
    ("left_s", "text"),
    [
        (-1, []),
        (0.2, ["about 1 s left"]),
        (42, ["about 42 s left"]),
        (60, ["about 1 min left"]),
        (2520, ["about 42 min left"]),
        (3600, ["about 1 h 0 min left"]),
        (7260, ["about 2 h 1 min left"]),
        (86_400, ["about 1.0 days left"]),
        (216_000, ["about 2.5 days left"]),
        (59.6, ["about 1 min left"]),
        (3569, ["about 59 min left"]),
        (3570, ["about 1 h 0 min left"]),
        (3599, ["about 1 h 0 min left"]),
        (86_399, ["about 1.0 days left"]),
    ],
)
def test_the_time_left(left_s: float, text: list[str]) -> None:
    """It is as exact as an estimate is."""
    assert text == left_text(left_s)


def test_a_text_has_metrics() -> None:
    """The line in the log has the metrics between steps and time."""
    report = Report(step=1200, total=5000, metrics={"loss": 0.3111111})
    progress = Progress(report=report, at_s=120, first_step=0, first_s=0, container="a")

    assert "step 1200/5000, loss 0.3111, about 6 min left" == progress.text(120)


PATTERN = r"step (?P<step>[\d,]+)(?: of (?P<total>\d+))? loss (?P<loss>\S+)"


@pytest.mark.parametrize(
    ("lines", "report"),
    [
        (["step 1 loss 5", "step 2 loss 4", "saved"], Report(step=2, metrics={"loss": 4})),
        (["step 1,200 of 5000 loss nan"], Report(step=1200, total=5000)),
        (["step 1 loss 5\rstep 2 loss 4\r"], Report(step=2, metrics={"loss": 4})),
        (["step , loss 5"], None),
        (["step " + "9" * 99 + " loss 5"], None),
        (["x"], None),
        ([], None),
        (["x" * 280 + "step 1 loss 5"], Report(step=1, metrics={"loss": 5})),
        (["x" * 300 + "step 1 loss 5"], None),
        (["step 1 loss 5", *["noise"] * 99], Report(step=1, metrics={"loss": 5})),
        (["step 1 loss 5", *["a loss "] * MOST_LINES], None),
    ],
)
def test_lines(lines: list[str], report: Report | None) -> None:
    """The last line that matches counts, also one that a progress bar wrote over."""
    assert report == LineSearch(PATTERN, never).last_report(lines)


@given(st.lists(st.text(max_size=60)))
def test_any_lines(lines: list[str]) -> None:
    """Whatever a log has, it raises nothing."""
    pattern = r"(?P<step>\S+)/(?P<total>\S+)"
    found = LineSearch(pattern, never).last_report([*lines, "9/x", "nan/3"])

    assert found is None or found.step >= 0


def test_a_slow_pattern() -> None:
    """The search ends for good when it has taken too long."""
    times = iter([0.0, 2.0, 2.0, 4.0])
    search = LineSearch(r"(?P<step>\d+)x", lambda: next(times))

    assert search.last_report(["1x", "x2", "x3", "x4"]) is None
    assert search.is_over
    assert search.last_report(["1x"]) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "(",
        r"(?P<total>\d+)",
        r"(?P<step>(a+)+)",
        "(?P<step>x)" + "x" * 990,
        "(?P<step>x){99999999999}",
        pytest.param("(?P<step>" + "(" * 490 + ")" * 491, id="nested"),
    ],
)
def test_a_label_that_cannot_be_used(pattern: str) -> None:
    """Any client can write a label: a pattern that is refused finds nothing."""
    search = LineSearch(pattern, never)

    assert search.is_over
    assert search.last_report(["step 1"]) is None


def test_what_is_stored() -> None:
    """The next process goes on with the same container, of which 12 digits are stored."""
    before = merged(None, Report(step=1, total=5), "c" * 64, 10)

    again = Progress.parse(json.loads(strict(before.stored())))

    assert before == again
    assert "c" * 12 == before.stored()["container"]
    assert 1 == merged(again, Report(step=2, total=5), "c" * 64, 20).first_step
    without_times: list[dict[str, Any]] = [{}, {"at": 5}, {"first": {"at": 5}}]
    for other in without_times:
        assert Progress.parse({"step": 1, **other}) is None
    long = Progress.parse({**before.stored(), "container": "c" * 999})
    assert before == long


def test_which_replica_counts() -> None:
    """Replica 0 of the first essential role speaks for the app."""
    roles = [
        RoleStatus(name, [ReplicaStatus(index, AppState.RUNNING, name, "h") for index in (0, 1)])
        for name in ("reader", "trainer")
    ]
    app = DescribeAppResponse("a", AppState.RUNNING, roles_statuses=roles)
    chosen = DescribeAppResponse(
        "a",
        AppState.RUNNING,
        roles_statuses=roles,
        metadata={"essential_roles": '["trainer"]'},
    )

    assert roles[0].replicas[0] == progress_replica(app)
    assert roles[1].replicas[0] == progress_replica(chosen)
    assert progress_replica(DescribeAppResponse("a")) is None
