"""Copies the logs of all replicas into the task log, live or afterwards."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Final

import structlog

from airflow_torchx.airflow_compat import masked
from airflow_torchx.core.engine.amounts import size
from airflow_torchx.core.logs.levels import level_of
from airflow_torchx.core.logs.lines import LogLine
from airflow_torchx.core.plan.identity import round_name
from airflow_torchx.core.state.report import cursor_key, log_name
from airflow_torchx.core.state.rule_matches import RuleMatches
from airflow_torchx.errors import AirflowTorchXError
from airflow_torchx.runtime import lifecycle, placing
from airflow_torchx.runtime.gang_log import BURST, Detached, GangLog, container_of, prefix_width
from airflow_torchx.runtime.replica_log import ReplicaLog
from airflow_torchx.runtime.root_cause import rule_search

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.gang_log import Cursors
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

#: Lines that begin with these fold the task log in Airflow's UI; a program must not do that.
_MARKERS: Final = ("::group::", "::endgroup::")


class TaskLog(GangLog):
    """Writes the logs of all replicas to the task log."""

    def emit(self, replica: ReplicaStatus, lines: Sequence[LogLine]) -> None:
        """Write lines of one replica; those of one second and one level are one log event."""
        _emit(replica, lines, self.width)

    def finish(self, timeout_s: float, should_stop: Callable[[], bool]) -> list[str]:
        """Finish as `GangLog.finish` does, and warn about logs that did not end in time."""
        late = super().finish(timeout_s, should_stop)
        if late:
            log = structlog.get_logger("torchx")
            log.warning(
                "stopped reading logs that did not end in time; run: %s %s",
                placing.docker_cli(self._engine).logs,
                " ".join(late),
            )
        return late


def write_rest(
    engine: Engine,
    app: DescribeAppResponse,
    after: Cursors,
    *,
    max_bytes: int,
    should_stop: Callable[[], bool],
    matches: RuleMatches | None = None,
) -> Cursors:
    """Copy what each replica has written after these cursors, and return the new ones.

    Of a log with more than ``max_bytes`` bytes only the end is copied, after a line that says how
    much was omitted. ``should_stop`` is called every few thousand lines. All of them are searched
    for ``matches``, by default those of the app.

    Raises:
        Detached: ``should_stop`` returned True. The log of the current replica counts as not
            copied.
    """
    cursors, found = dict(after), matches or RuleMatches(rule_search(app), after)
    replicas = lifecycle.of_all_rounds(engine, app)
    width = prefix_width(replicas)
    for replica in replicas:
        name = cursor_key(replica)
        try:
            log = ReplicaLog(engine, container_of(replica), after=cursors.get(name), resumable=True)
            rest, burst = _Rest(max_bytes), list[LogLine]()
            for count, line in enumerate(log):
                rest.add(line)
                burst.append(line)
                if count % _LINES_PER_CHECK == 0:
                    found.search(replica, burst)
                    burst.clear()
                    if should_stop():
                        raise Detached(found.kept_in(cursors))
            found.search(replica, burst)
            rest.emit(replica, width, placing.docker_cli(engine).logs)
            if log.cursor is not None:
                cursors[name] = log.cursor
        except AirflowTorchXError as error:
            note = LogLine("stderr", f"(cannot read its log: {error.args[0]})")
            _emit(replica, [note], width)
    return found.kept_in(cursors)


_LINES_PER_CHECK: Final = 2_000


class _Rest:
    """Keeps the last lines of a log, up to a size."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lines: deque[LogLine] = deque()
        self._bytes = 0
        self._omitted_lines = self._omitted_bytes = 0

    def add(self, line: LogLine) -> None:
        self._lines.append(line)
        self._bytes += len(line.text) + 1
        while self._bytes > self._max_bytes and len(self._lines) > 1:
            dropped = len(self._lines.popleft().text) + 1
            self._bytes -= dropped
            self._omitted_lines += 1
            self._omitted_bytes += dropped

    def emit(self, replica: ReplicaStatus, width: int, command: str) -> None:
        if self._omitted_lines:
            note = (
                f"(omitted {self._omitted_lines} lines before this, {size(self._omitted_bytes)}: "
                f"raise log_max_mb, or set on_finish='keep' and run "
                f"`{command} {round_name(replica.hostname, replica.round)}`)"
            )
            # Airflow sorts a log by time.
            _emit(replica, [self._lines[0]._replace(text=note)], width)
        while self._lines:
            burst = [self._lines.popleft() for _ in range(min(BURST, len(self._lines)))]
            _emit(replica, burst, width)


def _emit(replica: ReplicaStatus, lines: Sequence[LogLine], width: int) -> None:
    """Log lines under the time at which they were written, which Airflow shows to the second."""
    prefix = log_name(replica).ljust(width)
    logger = structlog.get_logger(f"torchx.{replica.role}.{replica.id}")
    for (_, level), alike in groupby(lines, _second_and_level):
        burst = list(alike)
        shown = masked("\n".join(line.text for line in burst)).split("\n")
        text = "\n".join(f"{prefix} {_without_markers(line)}" for line in shown)
        logger.log(
            level, text, role=replica.role, replica=replica.id, **_timestamp(burst[0].time_ns)
        )


def _second_and_level(line: LogLine) -> tuple[int | None, int]:
    second = None if line.time_ns is None else line.time_ns // _SECOND_NS
    return second, level_of(line.text)


def _timestamp(time_ns: int | None) -> dict[str, str]:
    """Return the field that structlog would set to the time of the call."""
    if time_ns is None:
        return {}
    moment = datetime.fromtimestamp(time_ns / _SECOND_NS, UTC)
    return {"timestamp": f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"}


_SECOND_NS: Final = 1_000_000_000


def _without_markers(text: str) -> str:
    for marker in _MARKERS:
        text = text.replace(marker, "")
    return text
