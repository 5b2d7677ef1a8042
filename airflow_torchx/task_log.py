"""All replicas' logs, live, in the log of one task."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import structlog

from airflow_torchx.errors import AirflowTorchXError
from airflow_torchx.parallel import Stopped
from airflow_torchx.replica_logs import ReplicaLog, container_ids

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from airflow_torchx.core.plan import JobPlan
    from airflow_torchx.engine import Engine

# Readers wait when this many lines are not written yet: memory stays bounded.
_QUEUED: Final = 10_000
# One event of 200 lines costs the task log what one line costs: 600,000 lines a second instead of
# 8,000 (measured on Airflow 3.3.2).
_BURST: Final = 200
#: Lines that begin with these fold the task log in Airflow's UI, which only we may do.
_MARKERS: Final = ("::group::", "::endgroup::")


@dataclass(frozen=True)
class _Line:
    role: str
    replica: int
    text: str


class TaskLog:
    """Follows every replica of an app in a thread of its own; the caller's thread writes.

    Args:
        engine: the daemon.
        plan: the app that was launched.
    """

    def __init__(self, engine: Engine, plan: JobPlan) -> None:
        self._engine = engine
        self._plan = plan
        self._lines: queue.Queue[_Line] = queue.Queue(_QUEUED)
        self._closing = threading.Event()
        self._logs: list[ReplicaLog] = []
        self._ids: dict[tuple[str, int], str] = {}
        self._threads = [
            threading.Thread(
                target=self._read, args=(spec.role, spec.replica), name=spec.name, daemon=True
            )
            for spec in plan.containers
        ]
        # One width for all prefixes, so that the lines of all replicas begin in one column.
        self._width = max(len(f"{spec.role}/{spec.replica}") for spec in plan.containers)

    def __enter__(self) -> Self:
        self._ids = container_ids(self._engine, self._plan.app_id)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Stop reading, whatever is left; `finish` comes before where nothing may be lost."""
        self._closing.set()
        for log in self._logs:
            log.close()

    def write(self, timeout_s: float) -> bool:
        """Write what has arrived, waiting at most ``timeout_s`` seconds for the first line.

        Of the lines that came in one go, those of one replica become one event with a line each.

        Returns:
            Whether anything was written.
        """
        try:
            burst = [self._lines.get(timeout=timeout_s)]
        except queue.Empty:
            return False
        with contextlib.suppress(queue.Empty):
            while len(burst) < _BURST:
                burst.append(self._lines.get_nowait())
        texts: dict[tuple[str, int], list[str]] = {}
        for line in burst:
            texts.setdefault((line.role, line.replica), []).append(line.text)
        for (role, replica), lines in texts.items():
            self._emit(role, replica, lines)
        return True

    def finish(self, timeout_s: float, should_stop: Callable[[], bool]) -> None:
        """Write the rest of every log; call it when the app has ended.

        Args:
            timeout_s: seconds after which a log that does not end is given up, with a warning.
            should_stop: asked several times a second.

        Raises:
            Stopped: ``should_stop`` returned True.
        """
        deadline = time.monotonic() + timeout_s
        while any(thread.is_alive() for thread in self._threads):
            if should_stop():
                raise Stopped
            if time.monotonic() > deadline:
                late = [thread.name for thread in self._threads if thread.is_alive()]
                log = structlog.get_logger("torchx")
                log.warning("the rest of these logs is left out: docker logs %s", " ".join(late))
                break
            self.write(0.1)
        while self.write(0):
            pass

    def _emit(self, role: str, replica: int, lines: list[str]) -> None:
        prefix = f"{role}/{replica}".ljust(self._width)
        text = "\n".join(f"{prefix} {line}" for line in lines)
        structlog.get_logger(f"torchx.{role}.{replica}").info(text, role=role, replica=replica)

    def _read(self, role: str, replica: int) -> None:
        try:
            log = ReplicaLog(self._engine, self._ids[role, replica], follow=True)
            self._logs.append(log)
            if self._closing.is_set():
                return
            for line in log:
                self._put(_Line(role, replica, _without_markers(line.text)))
        except KeyError:
            self._put(_Line(role, replica, "(its container is gone, and its log with it)"))
        except AirflowTorchXError as why:
            self._put(_Line(role, replica, f"(its log cannot be read: {why})"))

    def _put(self, line: _Line) -> None:
        while not self._closing.is_set():
            try:
                self._lines.put(line, timeout=0.5)
            except queue.Full:
                continue
            return


def _without_markers(text: str) -> str:
    for marker in _MARKERS:
        text = text.replace(marker, "")
    return text
