"""Receivers of what Airflow sends of metrics and traces."""

from __future__ import annotations

import re
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Final, Self

from airflow.sdk.observability import stats, trace
from airflow.sdk.observability.metrics.stats_utils import get_stats_factory
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from statsd import StatsClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

_LINE: Final = re.compile(r"airflow\.(torchx\.[^:]*):([^|]*)\|(\w+)")


class Statsd:
    """A StatsD daemon: a socket that gets the metrics of this process."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        # Only a test that fails waits for it.
        self._socket.settimeout(30)
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def until(self, name: str) -> list[tuple[str, str, str]]:
        """Return name, value and kind of each metric of ours, up to the first with this name."""
        found: list[tuple[str, str, str]] = []
        while not found or found[-1][0] != name:
            found += _LINE.findall(self._socket.recv(65535).decode())
        return found


class Client(StatsClient):  # type: ignore[misc] # the package ships no types
    """Airflow's client, whose sockets a test can close: Airflow itself keeps them open."""

    opened: ClassVar[list[Client]] = []

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.opened.append(self)


@contextmanager
def sending_to(
    port: int, monkeypatch: pytest.MonkeyPatch, *, with_tags: bool = False
) -> Iterator[None]:
    """Let Airflow send metrics to a port of this host, configured as a user does it."""
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
        patch.setenv("AIRFLOW__METRICS__STATSD_HOST", "127.0.0.1")
        patch.setenv("AIRFLOW__METRICS__STATSD_PORT", str(port))
        patch.setenv("AIRFLOW__METRICS__STATSD_CUSTOM_CLIENT_PATH", f"{__name__}.Client")
        patch.setenv("AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED", str(with_tags))
        # As the process of a task does at its start.
        stats.initialize(factory=get_stats_factory(), export_legacy_names=True)
        try:
            yield
        finally:
            patch.undo()
            stats.initialize(factory=get_stats_factory(), export_legacy_names=True)
            while Client.opened:
                Client.opened.pop().close()


class _Relay(SpanProcessor):
    """Hands spans to what receives them now: a process can have one provider only."""

    to: SpanProcessor | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self.to is not None:
            self.to.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if self.to is not None:
            self.to.on_end(span)


_RELAY: Final = _Relay()


@contextmanager
def tracing_to(processor: SpanProcessor) -> Iterator[None]:
    """Let a processor receive the spans of this process."""
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        provider = TracerProvider()
        provider.add_span_processor(_RELAY)
        trace.set_tracer_provider(provider)
    _RELAY.to = processor
    try:
        yield
    finally:
        _RELAY.to = None


class Spans:
    """The spans that have ended, by name."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def __getitem__(self, name: str) -> ReadableSpan:
        (found,) = (span for span in self._exporter.get_finished_spans() if span.name == name)
        return found

    @property
    def tree(self) -> dict[str, str]:
        """The name of the parent of each span of ours; empty for a span without one."""
        ended = self._exporter.get_finished_spans()
        names = {span.context.span_id: span.name for span in ended if span.context}
        return {
            span.name: names.get(span.parent.span_id, "?") if span.parent else ""
            for span in ended
            if span.name.startswith("torchx.")
        }


@contextmanager
def spans() -> Iterator[Spans]:
    """Yield the spans of this process, while they are made."""
    exporter = InMemorySpanExporter()
    with tracing_to(SimpleSpanProcessor(exporter)):
        yield Spans(exporter)
