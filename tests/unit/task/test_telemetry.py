"""What a task sends of metrics and traces, to real receivers."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.log import mask_secret
from airflow.sdk.observability import stats, trace
from airflow.sdk.observability.metrics.stats_utils import get_stats_factory
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from airflow_torchx.core.task.metrics import ATTRIBUTES
from airflow_torchx.errors import AppFailedError
from airflow_torchx.runtime.phases import observed_by, phase
from airflow_torchx.schedulers.docker_scheduler import ensure_network
from airflow_torchx.task import reattach
from airflow_torchx.task.context import TaskContext
from airflow_torchx.telemetry import Telemetry
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.receivers import Statsd, sending_to, spans, tracing_to
from tests.unit.task.worker import Attempt, Worker, context_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

COLLECTED = "torchx.collect.duration"
#: The phases of an app that runs on an image with a workspace.
PHASES = ["build", "create", "start", "launch", "wait", "collect"]
TAGS = ",dag_id=dag,task_id=task,conn_id=gpu_host"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a workspace."""
    (tmp_path / "train.py").write_text("1")
    return tmp_path


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Statsd]:
    """Return a StatsD daemon that gets the metrics of Airflow."""
    with Statsd() as statsd, sending_to(statsd.port, monkeypatch):
        yield statsd


def daemon(*programs: Program) -> FakeEngine:
    """Return a daemon whose containers behave like these programs, one after another."""
    left = list(programs)
    engine = FakeEngine(images=["base"], programs=lambda _: left.pop(0) if left else Program())
    ensure_network(engine)
    return engine


def join_senders() -> None:
    """Wait until all metrics are sent: a task waits for them only a moment."""
    for thread in threading.enumerate():
        if thread.name == "torchx-metrics":
            thread.join(60)


def test_the_metrics_of_an_app(folder: Path, statsd: Statsd) -> None:
    """A task counts its app at its launch and at its end, and sends how long each phase took."""
    Worker(daemon(), folder, waits=True).run(1)

    found = statsd.until(COLLECTED)
    assert [("torchx.app.launched", "1", "c"), ("torchx.app.finished.SUCCEEDED", "1", "c")] == [
        one for one in found if one[2] == "c"
    ]
    assert [f"torchx.{name}.duration" for name in PHASES] == [
        name for name, _, kind in found if kind == "ms"
    ]
    assert all(float(value) >= 0 for _, value, _ in found)


def test_the_tags_of_metrics(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each metric has DAG, task and connection as tags, and the state of an app that has ended."""
    with Statsd() as statsd, sending_to(statsd.port, monkeypatch, with_tags=True):
        Worker(daemon(), folder, waits=True).run(1, conn_id="gpu_host")
        names = [name for name, *_ in statsd.until(f"{COLLECTED}{TAGS}")]

    assert f"torchx.app.launched{TAGS}" in names
    assert f"torchx.app.finished.SUCCEEDED{TAGS},state=SUCCEEDED" in names
    assert [] == [name for name in names if TAGS not in name]


def test_the_metrics_of_a_failure(folder: Path, statsd: Statsd) -> None:
    """The end of a failed app counts its restarts, lack of memory, and the failure rule."""
    lines = ["No space left on device"]
    engine = daemon(Program(exit_code=1), Program(exit_code=1, lines=lines))
    with pytest.raises(AppFailedError):
        Worker(engine, folder, waits=True, max_retries=1).run(1)
    join_senders()
    with pytest.raises(AppFailedError):
        Worker(daemon(Program(exit_code=137, oom_killed=True)), folder, waits=True).run(1)

    found = statsd.until("torchx.replica.out_of_memory")
    assert [
        ("torchx.app.launched", "1"),
        ("torchx.app.finished.FAILED", "1"),
        ("torchx.app.restarts", "1"),
        ("torchx.failure_rule.no_space_left", "1"),
        ("torchx.app.launched", "1"),
        ("torchx.app.finished.FAILED", "1"),
        ("torchx.replica.out_of_memory", "1"),
    ] == [(name, value) for name, value, kind in found if kind == "c"]


def test_the_metric_of_a_reattachment(folder: Path, statsd: Statsd) -> None:
    """A retry that continues with an app counts it as reattached, not as launched."""
    engine = FakeEngine(images=["base"], programs=Program(runs_for_s=None))
    for number in (1, 2):
        Worker(engine, folder).run(number)
        join_senders()

    found = statsd.until("torchx.app.reattached")
    assert ["torchx.app.launched", "torchx.app.reattached"] == [
        name for name, _, kind in found if kind == "c"
    ]


def test_the_metric_of_an_app_that_the_task_stops(folder: Path, statsd: Statsd) -> None:
    """An app that is stopped because its task fails otherwise has ended as CANCELLED."""
    engine = FakeEngine(images=["base"], programs=Program(runs_for_s=None))
    worker, attempt = Worker(engine, folder), Attempt(1)
    worker.run(1)
    task = worker.task(attempt)
    app = reattach.newest(engine, TaskContext(context_of(attempt)).attempt)
    with suppress(ValueError), task.shutdown.guard_earlier(), task.shutdown.guard(app):
        raise ValueError

    name = "torchx.app.finished.CANCELLED"
    assert (name, "1", "c") == statsd.until(name)[-1]


def test_the_spans_of_an_app(folder: Path) -> None:
    """The phases of a task are children of its span; those of a launch are children of that."""
    with spans() as found:
        with trace.get_tracer("airflow").start_as_current_span("torchx.task"):
            app_id = Worker(daemon(), folder, waits=True).run(1)["app_id"]

        in_launch = dict.fromkeys(
            ["torchx.build", "torchx.create", "torchx.start"], "torchx.launch"
        )
        in_task = dict.fromkeys(["torchx.launch", "torchx.wait", "torchx.collect"], "torchx.task")
        assert {"torchx.task": "", **in_launch, **in_task} == found.tree
        assert {
            "torchx.app.id": app_id,
            "torchx.app.roles": ("main",),
            "torchx.app.replicas": 1,
            "torchx.app.state": "SUCCEEDED",
        } == dict(found["torchx.wait"].attributes or {})
        built = dict(found["torchx.build"].attributes or {})
        assert "airflow-torchx/workspace" == built["container.image.name"]
        assert set(built) <= ATTRIBUTES


def test_the_span_of_a_failure_has_no_message(folder: Path) -> None:
    """A span has the type of an error, and neither its message nor its traceback."""
    with spans() as found:
        engine = daemon(Program(exit_code=1, lines=["token=hunter2"]))
        with pytest.raises(AppFailedError):
            Worker(engine, folder, waits=True).run(1)

        collect, wait = found["torchx.collect"], found["torchx.wait"]
    assert ("AppFailedError", "FAILED") == tuple(
        (collect.attributes or {})[key] for key in ("error.type", "torchx.app.state")
    )
    assert StatusCode.ERROR is collect.status.status_code
    assert StatusCode.UNSET is wait.status.status_code
    assert "hunter2" not in collect.to_json() + wait.to_json()
    assert [] == [*collect.events, *wait.events]


def test_the_spans_of_images(folder: Path, statsd: Statsd) -> None:
    """A pull of the base and a push of the workspace image are phases of the launch."""
    engine = FakeEngine(pullable=["base"])
    with spans() as found:
        Worker(engine, folder).run(1, image_repo="hub:5000/team")

        assert {"torchx.launch"} == {found.tree[f"torchx.{name}"] for name in ("pull", "push")}
        assert "hub:5000/team" == (found["torchx.push"].attributes or {})["container.image.name"]
        assert "base" == (found["torchx.pull"].attributes or {})["container.image.name"]
    names = [name for name, *_ in statsd.until("torchx.app.launched")]
    assert {"torchx.pull.duration", "torchx.push.duration"} <= {*names}


def test_the_wait_of_a_deferred_task(folder: Path) -> None:
    """The process that continues makes one span of the whole wait, also of an earlier process."""
    engine = daemon(Program(runs_for_s=None))
    worker = Worker(engine, folder, waits=True, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        worker.run(1)
    (row,) = engine.rows({})
    engine.end(row.name, 0)
    kwargs = deferred.value.kwargs or {}
    with spans() as found:
        worker.resume(1, deferred.value)

        wait = found["torchx.wait"]
        assert {"torchx.wait": "", "torchx.collect": ""} == found.tree
    assert int(kwargs["wait_since_s"] * 1e9) == wait.start_time
    assert "SUCCEEDED" == (wait.attributes or {})["torchx.app.state"]
    assert ("main",) == (wait.attributes or {})["torchx.app.roles"]


def test_a_wait_whose_beginning_is_unknown(folder: Path) -> None:
    """A process that continues for one of a release without spans makes none of the wait."""
    engine = daemon(Program(runs_for_s=None))
    worker = Worker(engine, folder, waits=True, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        worker.run(1)
    (row,) = engine.rows({})
    engine.end(row.name, 0)
    del (deferred.value.kwargs or {})["wait_since_s"]
    with spans() as found:
        worker.resume(1, deferred.value)

        assert {"torchx.collect": ""} == found.tree


def test_the_span_of_a_pull_has_no_secrets() -> None:
    """A span names an image without the secrets that this process knows."""
    mask_secret("hunter2-secret")
    telemetry = Telemetry({})
    with spans() as found:
        with observed_by(telemetry), phase("pull", image="hub/hunter2-secret:1"):
            pass

        attributes = dict(found["torchx.pull"].attributes or {})
    telemetry.close()
    assert {"container.image.name": "hub/***", "container.image.tags": ("1",)} == attributes


def test_a_launch_does_not_count_its_wait_for_gpus(statsd: Statsd) -> None:
    """The wait for GPUs counts from its beginning in any process, and not as a launch."""
    clock = ManualClock(1000.0)
    telemetry = Telemetry({}, clock=clock)
    telemetry.gpu_wait_since_s = 900.0
    with spans() as found:
        with observed_by(telemetry), telemetry.phase("launch"):
            clock.sleep(2)
            with phase("gpu_wait", gpus=4):
                clock.sleep(60)
            clock.sleep(3)
        wait, launch = found["torchx.gpu_wait"], found["torchx.launch"]
    telemetry.close()

    assert [
        ("torchx.gpu_wait.duration", "162000.000000", "ms"),
        ("torchx.launch.duration", "5000.000000", "ms"),
    ] == statsd.until("torchx.launch.duration")
    assert (900 * 10**9, 1062 * 10**9) == (wait.start_time, wait.end_time)
    assert (1000 * 10**9, 1065 * 10**9) == (launch.start_time, launch.end_time)
    assert 4 == (wait.attributes or {})["torchx.app.gpus"]


def test_a_phase_that_fails_has_no_duration(statsd: Statsd) -> None:
    """Only phases that succeed have a duration: a failed pull says nothing about pulls."""
    telemetry = Telemetry({})
    with suppress(ValueError), telemetry.phase("pull"):
        raise ValueError
    with telemetry.phase("start"):
        pass
    telemetry.close()

    assert ["torchx.start.duration"] == [name for name, *_ in statsd.until("torchx.start.duration")]


class Broken(NoStatsLogger):
    """A back end that raises."""

    @classmethod
    def incr(cls, stat: str, *args: Any, **named: Any) -> None:  # noqa: ANN401 - as Airflow has it
        """Raise an error of its own."""
        del stat, args, named
        raise RuntimeError("the back end is broken")

    timing = incr


class Stuck(NoStatsLogger):
    """A back end that does not answer until it may."""

    released = threading.Event()

    @classmethod
    def incr(cls, stat: str, *args: Any, **named: Any) -> None:  # noqa: ANN401 - as Airflow has it
        """Wait for the end of the test."""
        del stat, args, named
        cls.released.wait(60)

    timing = incr


@pytest.fixture
def backend() -> Iterator[Callable[[type[NoStatsLogger]], None]]:
    """Return a function that lets Airflow send metrics to a back end."""
    yield lambda kind: stats.initialize(factory=kind, export_legacy_names=True)
    stats.initialize(factory=get_stats_factory(), export_legacy_names=True)


def test_a_back_end_of_metrics_that_raises(
    folder: Path,
    backend: Callable[[type[NoStatsLogger]], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A task ends as its app does although each metric fails, and logs that once."""
    backend(Broken)

    assert "app_id" in Worker(daemon(), folder, waits=True).run(1)
    join_senders()
    lost = [text for text in caplog.messages if "is lost" in text]
    assert ["a metric or span of this task is lost: RuntimeError: the back end is broken"] == lost


def test_a_back_end_of_metrics_that_hangs(
    folder: Path, backend: Callable[[type[NoStatsLogger]], None]
) -> None:
    """A task ends although its first metric is not sent yet."""
    backend(Stuck)

    found = Worker(daemon(), folder, waits=True).run(1)

    assert not Stuck.released.is_set()
    Stuck.released.set()
    join_senders()
    assert "app_id" in found


def test_a_back_end_of_metrics_that_is_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task ends as its app does if its metrics go to a port on which no program listens."""
    with Statsd() as statsd:
        port = statsd.port
    with sending_to(port, monkeypatch):
        assert "app_id" in Worker(daemon(), folder, waits=True).run(1)


class BrokenProcessor(SpanProcessor):
    """A back end of traces that raises."""

    def on_start(self, span: object, parent_context: object = None) -> None:
        """Raise an error of its own."""
        del span, parent_context
        raise RuntimeError("the back end is broken")

    def on_end(self, span: object) -> None:
        """Raise an error of its own."""
        del span
        raise RuntimeError("the back end is broken")


def test_a_back_end_of_traces_that_raises(folder: Path) -> None:
    """A task ends as its app does although each span fails."""
    with tracing_to(BrokenProcessor()):
        assert "app_id" in Worker(daemon(), folder, waits=True).run(1)


class StuckExporter(SpanExporter):
    """A back end of traces that does not answer until it may."""

    def __init__(self) -> None:
        self.is_asked, self.released = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Wait for the end of the test."""
        del spans
        self.is_asked.set()
        self.released.wait(60)
        return SpanExportResult.SUCCESS


def test_a_back_end_of_traces_that_hangs(folder: Path) -> None:
    """A task ends while its spans are being sent, by the processor that Airflow has."""
    exporter = StuckExporter()
    processor = BatchSpanProcessor(exporter, max_export_batch_size=1)
    with tracing_to(processor):
        found = Worker(daemon(), folder, waits=True).run(1)
        exporter.is_asked.wait(60)

    assert not exporter.released.is_set()
    exporter.released.set()
    processor.shutdown()  # type: ignore[no-untyped-call]
    assert "app_id" in found
