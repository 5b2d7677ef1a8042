"""All replicas' logs in the log of one task: live, or what was written since somebody looked."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from airflow_torchx.core.engine.amounts import size
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.report import replica_name
from airflow_torchx.errors import AirflowTorchXError
from airflow_torchx.runtime.gang_log import BURST, Detached, GangLog, container_of, prefix_width
from airflow_torchx.runtime.replica_log import ReplicaLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.gang_log import Cursors
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

#: Lines that begin with these fold the task log in Airflow's UI, which only we may do.
_MARKERS: Final = ("::group::", "::endgroup::")


class TaskLog(GangLog):
    """A gang's log in the log of a task."""

    def emit(self, replica: ReplicaStatus, lines: Sequence[str]) -> None:
        """See `GangLog.emit`."""
        _emit(replica, lines, self.width)

    def finish(self, timeout_s: float, should_stop: Callable[[], bool]) -> list[str]:
        """See `GangLog.finish`; what is given up is a warning."""
        late = super().finish(timeout_s, should_stop)
        if late:
            log = structlog.get_logger("torchx")
            log.warning("the rest of these logs is left out: docker logs %s", " ".join(late))
        return late


def write_rest(
    engine: Engine,
    app: DescribeAppResponse,
    after: Cursors,
    *,
    max_bytes: int,
    should_stop: Callable[[], bool],
) -> Cursors:
    """Write what each replica has written since, one replica after the other.

    Args:
        engine: the daemon.
        app: the app, running or not.
        after: how far earlier writers came.
        max_bytes: of each replica, only so much of the end is written, with a line that tells how
            much was detached out.
        should_stop: asked after every few thousand lines.

    Returns:
        Where the next writer goes on.

    Raises:
        Detached: ``should_stop`` returned True; the replica it was at is not counted as written.
    """
    cursors = dict(after)
    width = prefix_width(app)
    for replica in replicas_of(app):
        name = replica_name(replica)
        try:
            log = ReplicaLog(engine, container_of(replica), after=cursors.get(name), resumable=True)
            rest = _Rest(max_bytes)
            for count, line in enumerate(log):
                rest.add(line.text)
                if count % _LOOK_EVERY == 0 and should_stop():
                    raise Detached(cursors)
            rest.emit(replica, width)
            if log.cursor is not None:
                cursors[name] = log.cursor
        except AirflowTorchXError as why:
            _emit(replica, [f"(cannot read its log: {why.args[0]})"], width)
    return cursors


_LOOK_EVERY: Final = 2_000


class _Rest:
    """The end of a log, as much of it as is wanted."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lines: deque[str] = deque()
        self._bytes = 0
        self._left_out = [0, 0]

    def add(self, text: str) -> None:
        self._lines.append(text)
        self._bytes += len(text) + 1
        while self._bytes > self._max_bytes and len(self._lines) > 1:
            dropped = len(self._lines.popleft()) + 1
            self._bytes -= dropped
            self._left_out[0] += 1
            self._left_out[1] += dropped

    def emit(self, replica: ReplicaStatus, width: int) -> None:
        count, left_out = self._left_out
        if count:
            told = (
                f"({count} lines before this, {size(left_out)}, are left out: raise log_max_mb, "
                f"or keep the containers by on_finish='keep' and see "
                f"`docker logs {replica.hostname}`)"
            )
            _emit(replica, [told], width)
        while self._lines:
            burst = [self._lines.popleft() for _ in range(min(BURST, len(self._lines)))]
            _emit(replica, burst, width)


def _emit(replica: ReplicaStatus, lines: Sequence[str], width: int) -> None:
    prefix = replica_name(replica).ljust(width)
    text = "\n".join(f"{prefix} {_without_markers(line)}" for line in lines)
    logger = structlog.get_logger(f"torchx.{replica.role}.{replica.id}")
    logger.info(text, role=replica.role, replica=replica.id)


def _without_markers(text: str) -> str:
    for marker in _MARKERS:
        text = text.replace(marker, "")
    return text
