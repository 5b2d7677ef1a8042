"""What Airflow's metrics and traces say of apps; its configuration decides where they go."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from airflow_torchx.airflow_compat import masked, stats_tags
from airflow_torchx.concurrency.background import BackgroundCalls
from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.task import metrics
from airflow_torchx.core.task.metrics import Count
from airflow_torchx.runtime.gang_log import Detached
from airflow_torchx.runtime.gpus.queue import MustWait

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from types import TracebackType

    from opentelemetry.trace import Span

    from airflow_torchx.core.task.metrics import Phase, Value
    from airflow_torchx.specs import AppState, DescribeAppResponse

    #: Gives the span of a phase the state of its app.
    Note: TypeAlias = Callable[[AppState], None]

_log = logging.getLogger(__name__)

_TRACER: Final = "airflow_torchx"
# A killed task has 5 s.
_CLOSE_S: Final = 0.2
#: What ends a phase that another process goes on with.
_LEFT: Final = (Detached, MustWait, StopRequested)


class Telemetry:
    """The metrics and spans of one process of a task. Thread-safe.

    Metrics are sent in a thread, because a back end may be slow; spans are queued by Airflow's
    exporter. What a back end raises is logged once, and never reaches the task.

    Args:
        tags: those of Airflow's own metrics of the task.
        conn_id: id of the connection to the daemon, if that is known.
        clock: returns seconds since 1970.
    """

    def __init__(
        self,
        tags: Mapping[str, str],
        conn_id: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tags = dict(tags)
        self.connect(conn_id)
        self._clock = clock
        self._calls = BackgroundCalls("torchx-metrics")
        self._harmless = _Harmless()
        self._app: dict[str, Value] = {}
        self._is_finished = False
        #: How long this process has waited for GPUs.
        self._gpu_wait_s = 0.0
        #: When the app began to wait for GPUs in an earlier process, in seconds since 1970.
        self.gpu_wait_since_s: float | None = None
        #: When the task began to wait for its app, in seconds since 1970; None if that is unknown.
        self.wait_since_s: float | None = None

    def connect(self, conn_id: str | None) -> None:
        """Tag each later metric with the connection to the daemon."""
        if conn_id:
            self._tags["conn_id"] = conn_id

    def name_app(self, app_id: str, roles: Collection[str], replicas: int) -> None:
        """Name the app of the phases that follow."""
        self._app = {
            metrics.APP_ID: app_id,
            metrics.ROLES: tuple(roles),
            metrics.REPLICAS: replicas,
        }

    def launched(self) -> None:
        """Count an app that this task has launched."""
        self._count(Count(metrics.LAUNCHED, {}))

    def reattached(self) -> None:
        """Count an app of an earlier try that this task continues with."""
        self._count(Count(metrics.REATTACHED, {}))

    def finished(self, app: DescribeAppResponse) -> None:
        """Count the end of the app, with restarts and lack of memory; once in this process."""
        if not self._is_finished:
            for one in metrics.end_counts(app):
                self._is_finished = True
                self._count(one)

    def failed_by(self, rule: str) -> None:
        """Count a failure of the app that a failure rule explains; ``rule`` is empty without."""
        if rule:
            self._count(metrics.rule_count(rule))

    def begin_wait(self, app: DescribeAppResponse) -> None:
        """Note that the task waits for its app from now on, in this process or in others."""
        self.resume_wait(app, self._clock())

    def resume_wait(self, app: DescribeAppResponse, since_s: float | None) -> None:
        """Note since when the task waits for its app; None if that is unknown."""
        roles = {status.role: len(status.replicas) for status in app.roles_statuses}
        self.name_app(app.app_id, roles, sum(roles.values()))
        self.wait_since_s = since_s

    def end_wait(self, app: DescribeAppResponse) -> None:
        """Make the span of a wait that began in an earlier process, if its beginning is known."""
        if self.wait_since_s is not None:
            with self.phase("wait", state=app.state, began_s=self.wait_since_s):
                pass

    @contextmanager
    def phase(
        self,
        name: Phase,
        *,
        image: str = "",
        gpus: int = 0,
        state: AppState | None = None,
        began_s: float | None = None,
    ) -> Iterator[Note]:
        """Make a span of a phase, and send its duration if it ends without an error.

        Args:
            name: the phase.
            image: image of a build, push or pull.
            gpus: number of GPUs that are waited for.
            state: state of the app.
            began_s: when it began, in seconds since 1970; None for now.

        Yields:
            A function that gives the span the state of the app.
        """
        entered_s, waited_s = self._clock(), self._gpu_wait_s
        if name == "gpu_wait":
            began_s, self.gpu_wait_since_s = self.gpu_wait_since_s, None
        began_s = entered_s if began_s is None else began_s
        with self._span(name, began_s, metrics.attributes(image, gpus, state)) as span:
            yield lambda seen: self._note(span, metrics.attributes(state=seen))
        now_s = self._clock()
        if name == "gpu_wait":
            self._gpu_wait_s += now_s - entered_s
        if name == "launch":
            began_s += self._gpu_wait_s - waited_s
        self._time(name, now_s - began_s)

    @contextmanager
    def _span(self, name: Phase, began_s: float, values: Mapping[str, Value]) -> Iterator[Span]:
        from airflow.sdk.observability import trace

        span: Span = trace.INVALID_SPAN
        with self._harmless:
            span = trace.get_tracer(_TRACER).start_span(
                metrics.span_name(name),
                start_time=_nanoseconds(began_s),
                attributes=_masked({**self._app, **values}),
            )
        try:
            # An error's message may have secrets, which the task's log masks.
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield span
        except BaseException as error:
            self._mark(span, error)
            raise
        finally:
            with self._harmless:
                span.end(_nanoseconds(self._clock()))

    def close(self) -> None:
        """Wait a moment for the metrics that are being sent."""
        self._calls.close(_CLOSE_S)

    def _note(self, span: Span, values: Mapping[str, Value]) -> None:
        with self._harmless:
            span.set_attributes(_masked(values))

    def _mark(self, span: Span, error: BaseException) -> None:
        """Give a span its error, by its type alone."""
        from opentelemetry.trace import Status, StatusCode

        if isinstance(error, _LEFT):
            return
        with self._harmless:
            kind = type(error).__name__
            span.set_attribute(metrics.ERROR, kind)
            span.set_status(Status(StatusCode.ERROR, kind))

    def _count(self, one: Count) -> None:
        from airflow.sdk.observability import stats

        tags = self._tags | dict(one.tags)

        def send() -> None:
            with self._harmless:
                stats.incr(one.name, one.number, tags=tags)

        self._calls.submit(send)

    def _time(self, name: Phase, duration_s: float) -> None:
        from airflow.sdk.observability import stats

        tags, duration = dict(self._tags), timedelta(seconds=max(0.0, duration_s))

        def send() -> None:
            with self._harmless:
                stats.timing(metrics.duration_name(name), duration, tags=tags)

        self._calls.submit(send)


def count_end(ti: object, conn_id: str | None, app: DescribeAppResponse) -> None:
    """Count the end of an app whose task has no process that does; it may take a moment."""
    telemetry = Telemetry(stats_tags(ti), conn_id)
    telemetry.finished(app)
    telemetry.close()


class _Harmless:
    """A context that logs the first error of a back end, and ends it.

    It ends every type, because a custom back end raises types of its own.
    """

    _is_logged = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        if not self._is_logged:
            self._is_logged = True
            _log.warning(
                "a metric or span of this task is lost: %s: %s", type(error).__name__, error
            )
        return True


def _masked(values: Mapping[str, Value]) -> dict[str, Value]:
    """Return attributes without the secrets that this process knows."""
    return {
        key: masked(value)
        if isinstance(value, str)
        else value
        if isinstance(value, int)
        else tuple(map(masked, value))
        for key, value in values.items()
    }


def _nanoseconds(time_s: float) -> int:
    return int(time_s * 1e9)
