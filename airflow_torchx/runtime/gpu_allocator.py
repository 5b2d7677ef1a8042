"""Allocates GPUs to a launch: finds their ids, and waits until enough are free."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.gpu.demand import GpuDemand, owner_labels
from airflow_torchx.core.gpu.ids import ALL, GpuIds
from airflow_torchx.core.gpu.report import locked_text, shared_text, unknown_ids_text, waiting_text
from airflow_torchx.core.gpu.turn import Blocked
from airflow_torchx.core.plan.gpu_problems import gpu_shortage, no_gpu_driver
from airflow_torchx.errors import EngineUnreachableError, GpuWaitTimeoutError, InvalidAppError
from airflow_torchx.runtime.gpus.probe import NoGpuDriver, probed
from airflow_torchx.runtime.gpus.queue import DEFERRED, PRESENT, Claim, GpuQueue, MustWait
from airflow_torchx.runtime.gpus.wait_log import WaitLog
from airflow_torchx.runtime.outage import OutageTolerance, patiently
from airflow_torchx.runtime.phases import phase
from airflow_torchx.runtime.watch.gpu_events import AttemptBackoff, GpuEvents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_torchx.core.engine.containers import ContainerSpec, EngineInfo
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.job_plan import JobPlan
    from airflow_torchx.errors import Problem

_log = logging.getLogger(__name__)

#: How a launch waits for GPUs. ``here``: in this process. ``resumable``: in this process, and in
#: another one, by `MustWait`, if ``should_stop`` ends the wait. ``elsewhere``: in another one.
Waiting: TypeAlias = Literal["here", "resumable", "elsewhere"]

# Between two checks of should_stop; Airflow gives a killed task 5 s.
_TICK_S: Final = 0.2


class GpuAllocator:
    """The GPUs of one launch.

    Args:
        info: the daemon, with the GPUs to use; its ``gpu_ids`` may be empty.
        reported: ids of all its GPUs.
        timeout_s: longest wait from the first call of `allocate`, in seconds; None for no limit.
        waiting: how to wait.
        should_stop: called several times a second.
    """

    def __init__(
        self,
        engine: Engine,
        info: EngineInfo,
        *,
        reported: Sequence[str] = (),
        timeout_s: float | None = None,
        waiting: Waiting = "here",
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._engine = engine
        self._info = info
        self._reported = reported
        self._timeout_s = timeout_s
        self._waiting = waiting
        self._should_stop = should_stop
        self._queue: GpuQueue | None = None
        #: What the app waits for; None if it has not looked yet.
        self._blocked: Blocked | None = None
        self._claim: Claim | None = None
        #: When the wait began, in seconds since 1970.
        self._since_s: float | None = None
        #: When the wait has lasted too long, in seconds since 1970; None for never.
        self._until_s: float | None = None

    def allocate(self, plan: JobPlan) -> JobPlan:
        """Claim GPUs for a plan whose images are on the daemon, and return the plan with their ids.

        Raises:
            InvalidAppError: the daemon has fewer GPUs or no driver for them, or several replicas
                need GPUs whose ids are unknown.
            EngineUnreachableError: the daemon did not answer for a minute; a launch that another
                process may go on with keeps its place in the queue.
            GpuWaitTimeoutError: not enough GPUs became free in time.
            MustWait: not enough GPUs are free, and another process is to wait for them.
            StopRequested: ``should_stop`` returned True.
        """
        demand = GpuDemand.of(plan, *self._ids(plan))
        if demand is None:
            if count := plan.shared_gpus:
                _log.info("%s", shared_text(plan.app_id, count, self._info.host))
            return plan
        with phase("gpu_wait", gpus=demand.count):
            step = self._claim = self._claimed(self._completed(demand))
        if demand.needs_all:
            _log.warning("%s", unknown_ids_text(plan.app_id, self._info.host))
        else:
            _log.info("app %s gets %s", plan.app_id, ", ".join(step.ids))
        return plan.with_gpus(step.ids, self._info.gpu_kind)

    def _completed(self, demand: GpuDemand) -> GpuDemand:
        """Return a demand with the end of its wait, and the volumes of its image."""
        self._since_s = now_s = self._since_s or time.time()
        if self._timeout_s is not None and self._until_s is None:
            self._until_s = now_s + self._timeout_s
        image = self._engine.images.inspect(demand.image)
        return replace(
            demand,
            since_s=self._since_s,
            until_s=self._until_s,
            wait_timeout_s=self._timeout_s,
            volumes=image.volumes if image else (),
        )

    def _claimed(self, demand: GpuDemand) -> Claim:
        """Return GPUs that are claimed for this launch, after a wait if there are not enough."""
        self._queue = queue = self._queue_for(demand)
        try:
            step = patiently(queue.attempt, self._should_stop)
            if isinstance(step, Claim):
                return step
            self._blocked = step
            if self._waiting != "elsewhere":
                return self._wait(queue, step)
        except StopRequested:
            if self._waiting != "resumable":
                raise
        except EngineUnreachableError as outage:
            if self._waiting == "resumable" and self._should_stop():
                raise MustWait(demand, str(outage)) from None
            if self._waiting != "here":
                # The next try needs the place. Without one, the task leaves the queue itself.
                self._queue = None
            raise
        # Another process goes on with the wait.
        raise MustWait(demand, self._text)

    def _queue_for(self, demand: GpuDemand) -> GpuQueue:
        timeouts = PRESENT
        if self._waiting != "here":
            # Another process may take over the wait. The launch follows a claim at once.
            timeouts = replace(PRESENT, ticket=DEFERRED.ticket)
        return GpuQueue(self._engine, demand, timeouts, should_stop=self._must_stop)

    def commit(self) -> bool:
        """Return whether the replicas, which were created, hold the GPUs from now on."""
        if self._queue is None or self._claim is None:
            return True
        return self._queue.commit(self._claim)

    def release(self) -> None:
        """Give up the place in the queue, and the claim. Idempotent."""
        if self._queue is not None:
            self._queue.release()

    def _wait(self, queue: GpuQueue, step: Claim | Blocked) -> Claim:
        """Attempt after each event of the daemon that may have freed GPUs."""
        changed, log = threading.Event(), WaitLog(self._info.host)
        tolerance = OutageTolerance(should_stop=self._should_stop)
        with GpuEvents(lambda: self._engine) as events:
            events.subscribe(changed.set)
            backoff = AttemptBackoff()
            while isinstance(step, Blocked):
                self._blocked = step
                log.note(step)
                self._pause(backoff, changed, step, has_events=events.is_open)
                with tolerance:
                    step = queue.attempt()
        return step

    def _pause(
        self, backoff: AttemptBackoff, changed: threading.Event, step: Blocked, *, has_events: bool
    ) -> None:
        """Wait for an event, or until the next attempt."""
        until_s = time.monotonic() + backoff.next_s(step, has_events=has_events)
        while True:
            if self._must_stop():
                raise StopRequested
            left_s = until_s - time.monotonic()
            if left_s <= 0 or changed.wait(min(_TICK_S, left_s)):
                break
        if changed.is_set():
            changed.clear()
            backoff.reset()

    def _must_stop(self) -> bool:
        """Return whether the launch is to stop; raise if it has waited for too long."""
        if self._should_stop():
            return True
        if self._until_s is not None and time.time() >= self._until_s:
            raise GpuWaitTimeoutError(self._text, timeout_s=self._timeout_s)
        return False

    @property
    def _text(self) -> str:
        """What the app waits for."""
        if self._blocked is None:
            return locked_text(self._info.host)
        return waiting_text(self._blocked, self._info.host, datetime.now(UTC))

    def _ids(self, plan: JobPlan) -> tuple[Sequence[str], GpuIds]:
        """Return the ids of the GPUs that the app may have, and those of the daemon."""
        users = [spec for spec in plan.containers if spec.gpus]
        if not plan.own_gpus or self._info.gpu_ids:
            reported = tuple(self._reported or self._info.gpu_ids)
            return self._info.gpu_ids, GpuIds(reported, self._info.gpus_are_indexed)
        found: tuple[str, ...] = ()
        try:
            found = tuple(
                probed(
                    self._engine,
                    self._info.id,
                    users[0].image,
                    owner=owner_labels(plan),
                    should_stop=self._should_stop,
                )
            )
        except NoGpuDriver as why:
            problems = [no_gpu_driver(self._info.url, str(why))]
        else:
            problems = [*self._shortage(users, len(found))]
        if problems:
            raise InvalidAppError(problems, subject=f"app {plan.app_id!r}")
        are_whole = all(one.startswith("GPU-") for one in found)
        return (found, GpuIds(found, are_whole)) if found else ((ALL,), GpuIds((ALL,)))

    def _shortage(self, users: Sequence[ContainerSpec], known: int) -> Iterator[Problem]:
        requests = [spec.gpus for spec in users if spec.gpus]
        counts = [request.count for request in requests]
        needs_ids = any(request.driver == "cdi" for request in requests)
        return gpu_shortage(counts, known, self._info.url, needs_ids=needs_ids)
