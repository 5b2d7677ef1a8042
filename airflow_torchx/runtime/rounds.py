"""Restarts an app or a role: makes the next round of its containers.

Any client can, at any time, together with others, and after any of them was killed: what is done,
and what is left to do, is on the containers. A round needs neither the plan nor the secrets of the
launch, because its containers are clones.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.ids import GpuIds
from airflow_torchx.core.plan.identity import (
    FAILED_SUFFIX,
    container_name,
    failed_name,
    first_name,
    is_marked,
    is_restarting_name,
    restarting_name,
    round_name,
    starting_name,
)
from airflow_torchx.core.plan.job_plan import RESTART
from airflow_torchx.core.state.describe import (
    describe,
    exit_code,
    next_step,
    replica_state,
    replicas_of,
)
from airflow_torchx.core.state.essential import is_essential
from airflow_torchx.core.state.failure_rules import final_reason
from airflow_torchx.core.state.report import replica_name, restart_text
from airflow_torchx.core.state.restarts import Restart, restart_of
from airflow_torchx.core.state.rounds import (
    final_exit_codes,
    is_startable,
    labelled_gpus,
    members_of,
    replica_key,
    restarts_caused,
    round_of,
    sources_of,
)
from airflow_torchx.errors import (
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
)
from airflow_torchx.runtime import placing, round_failures
from airflow_torchx.runtime.gpus.ledger_reader import LedgerReader
from airflow_torchx.runtime.lifecycle import described, grace_of, live, rows_of
from airflow_torchx.runtime.stops import Stops
from airflow_torchx.specs import AppState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.specs import DescribeAppResponse

_log = logging.getLogger(__name__)


def restart(engine: Engine, app_id: str) -> DescribeAppResponse | None:
    """Restart an app if that is due, and return it as it was before; None if it is gone.

    Raises:
        EngineUnreachableError: the daemon does not answer; the next call continues.
    """
    rows = rows_of(engine, app_id)
    app = described(engine, app_id, rows)
    if app is not None and isinstance(step := next_step(app), Restart):
        carry_out(engine, app, rows, step)
    return app


def carry_out(
    engine: Engine,
    app: DescribeAppResponse,
    rows: Sequence[ContainerRow],
    step: Restart,
    should_stop: Callable[[], bool] = lambda: False,
    secrets: frozenset[str] | None = None,
) -> None:
    """Stop what still runs of the roles, then create and start the containers of the round.

    If another client makes the round, or has cancelled or deleted the app, this one gives way: the
    caller looks again. If ``should_stop`` returns True after the stop, the next owner continues.

    The log has the error of the worker that failed, with ``secrets`` masked. A caller that does not
    know the secrets passes None: the log has no texts of programs then.

    Raises:
        EngineUnreachableError: the daemon does not answer; the next call continues.
    """
    made = _Round.of(engine, app, rows, step)
    if made.is_final_before_stop():
        return
    made.stop_sources()
    if should_stop():
        return
    failed = made.diagnosed(secrets or frozenset())
    if failed is not None and made.is_final(failed):
        return
    _log.info("%s", restart_text(failed or app, step, has_texts=secrets is not None))
    if made.is_created():
        made.start()


@dataclass(frozen=True, kw_only=True)
class _Round:
    """A round that this client makes.

    Args:
        app: the app when it was decided, and ``rows`` its containers.
        sources: the containers of which it is made, the first replica of the first role first.
        marks: the labels of its containers.
    """

    engine: Engine
    app: DescribeAppResponse
    rows: Sequence[ContainerRow]
    step: Restart
    sources: Sequence[ContainerRow]
    marks: Mapping[str, str]

    @classmethod
    def of(
        cls,
        engine: Engine,
        app: DescribeAppResponse,
        rows: Sequence[ContainerRow],
        step: Restart,
    ) -> _Round:
        newest = sources_of(rows, step.number)
        order = {role: place for place, role in enumerate(step.roles)}
        keys = sorted((key for key in newest if key[0] in order), key=lambda k: (order[k[0]], k[1]))
        caused = restarts_caused(rows)
        if step.cause_role:
            caused[step.cause_role] = step.used
        marks = {
            labels.ROUND: str(step.number),
            labels.ROUND_ROLES: json.dumps(list(step.roles)),
            labels.RESTARTS: json.dumps(caused),
        }
        sources = [newest[key] for key in keys]
        return cls(engine=engine, app=app, rows=rows, step=step, sources=sources, marks=marks)

    @property
    def app_id(self) -> str:
        """The id of the app."""
        return self.app.app_id

    def stop_sources(self) -> None:
        """Stop the containers of the round before, at once, with one grace period."""
        running, grace_s = live(self.sources), grace_of(self.rows)
        if running and self.step.lost:
            others = "1 other" if len(running) == 1 else f"{len(running)} others"
            _log.info("replica %s failed; stopping %s", self.step.lost, others)
        stops = Stops(self.engine, lambda: live(rows_of(self.engine, self.app_id)))
        stops.rename(running, restarting_name)
        stops.stop(running, grace_s)

    def is_final_before_stop(self) -> bool:
        """Return whether the failure of an auxiliary replica must not restart anything.

        The essential replicas run on then, so it is decided before any is stopped, by the log of
        the replica alone.
        """
        if not self._is_new or is_essential(self.app, self.step.cause_role):
            return False
        lost = [one for one in replicas_of(self.app) if replica_name(one) == self.step.lost]
        app = round_failures.failed_alone(self.engine, self.app, lost)
        if (why := final_reason(app, final_exit_codes(self.rows))) is None:
            return False
        _log.info("replica %s is not restarted: %s", self.step.lost, why)
        ids = {one.container_id for one in lost}
        self._mark_failed([row for row in self.rows if row.id in ids])
        return True

    def diagnosed(self, secrets: frozenset[str]) -> DescribeAppResponse | None:
        """Return the app as one that failed, with why; None if another client began the round.

        It is also None if the app is gone.
        """
        if not self._is_new:
            return None
        stopped = {row.id for row in live(self.sources)}
        return round_failures.failed_round(self.engine, self.app_id, stopped, secrets)

    def is_final(self, failed: DescribeAppResponse) -> bool:
        """Return whether the failure must not restart the app, and say so on its containers.

        A failure rule says so, or the exit code of a worker: torchrun itself ends with 1. Both are
        read once all replicas have ended.
        """
        if (why := final_reason(failed, final_exit_codes(self.rows))) is None:
            return False
        _log.info("app %s is not restarted: %s", self.app_id, why)
        self._fail_sources(rows_of(self.engine, self.app_id))
        return True

    def is_created(self) -> bool:
        """Create its containers, and return whether they may be started.

        The name of the first one is a lock: the labels of all come from the client that created
        it. So that no failure is counted twice, another client looks again at them.
        """
        if self._has_started(self.rows):
            return True
        created: list[str] = []
        try:
            if self._is_new and not self._clone(self.sources[0], created):
                return False
            map_concurrently(lambda row: self._clone(row, created), self.sources)
        except EngineUnreachableError:
            raise
        except EngineError as error:
            self._give_up(error, created)
            return False
        return True

    def start(self) -> None:
        """Start its containers that are still to be started, unless it was overtaken."""
        if self._has_lost_gpus():
            return
        rows = rows_of(self.engine, self.app_id)
        created = [row for row in rows if round_of(row) == self.step.number and is_startable(row)]
        startable = [row for row in self._members(rows) if is_startable(row)]
        if self._is_overtaken(rows):
            startable = []
        ids = {row.id for row in startable}
        self._discard([row.id for row in created if row.id not in ids])
        if startable and placing.has_nodes(self.engine):
            placing.place(self.engine, self.app_id)
        else:
            map_concurrently(self._start, startable)

    def _has_lost_gpus(self) -> bool:
        """Return whether other apps have its GPUs; then its failure is final.

        They respect them while a container runs, and for a minute. The next owner may come later.
        """
        # A swarm gives a replica other ones.
        is_swarm = placing.has_nodes(self.engine)
        ids = {one for row in self.sources for one in labelled_gpus(row.labels) if not is_swarm}
        if not ids or self._has_started(self.rows):
            return False
        detail = self.engine.inspect(self.sources[0].id)
        if detail is None or not all(request.device_ids for request in detail.gpus):
            return False  # GPUs by count are shared
        ledger = LedgerReader(self.engine, GpuIds(tuple(sorted(ids)))).read()
        taken = [
            one
            for one in ledger.holders
            if one.app_id not in {"", self.app_id} and not ids.isdisjoint(labelled_gpus(one.labels))
        ]
        if taken:
            what = f"its GPUs were given to {', '.join(sorted({one.app_id for one in taken}))}"
            rows = rows_of(self.engine, self.app_id)
            own = [row.id for row in self._members(rows) if is_startable(row)]
            self._give_up(EngineError(what), own)
        return bool(taken)

    @property
    def _is_new(self) -> bool:
        """Whether no client had created a container of it when it was decided."""
        return bool(self.step.cause_role)

    def _members(self, rows: Sequence[ContainerRow]) -> list[ContainerRow]:
        return members_of(rows, self.step.number)

    def _has_started(self, rows: Sequence[ContainerRow]) -> bool:
        return any(row.state != "created" for row in self._members(rows))

    def _is_overtaken(self, rows: Sequence[ContainerRow]) -> bool:
        """Return whether the app was cancelled or deleted, has ended, or was restarted again.

        A client that cancels or deletes an app lists its containers once more after it has marked
        or removed those of the round before. So it sees these, or this client sees what it did.
        """
        found = describe(self.app_id, rows, {})
        due = restart_of(found) if found is not None else None
        if due is None or due.number != self.step.number:
            return True
        names = {row.id: row.name for row in rows}
        # An auxiliary replica of it may have failed for good before that.
        is_over = any(
            names.get(row.id) != row.name and is_marked(names.get(row.id, FAILED_SUFFIX))
            for row in self.sources
        )
        return is_over and not self._has_started(rows)

    def _clone(self, source: ContainerRow, created: list[str]) -> bool:
        """Clone a container, and return whether this client did; add the clone to ``created``."""
        host_name = container_name(self.app_id, *replica_key(source))
        number = self.step.number
        try:
            clone = self.engine.clone(
                source.id,
                name=round_name(host_name, number),
                labels=self.marks,
                env={RESTART: str(number)},
            )
        except EngineConflictError:
            return False
        created.append(clone)
        return True

    def _start(self, row: ContainerRow) -> None:
        """Start a container that has never run, unless another client does, or cancels the app.

        Docker also starts a container that has ended, as it may have since it was listed. So a
        client first gives it a name of its own, and starts it by that name: a client that renames
        it later takes it over.
        """
        name = first_name(row.name)
        own_name = starting_name(name, secrets.token_hex(4))
        try:
            self.engine.rename(row.name, own_name)
            detail = self.engine.inspect(row.id)
            if detail is not None and detail.state == "created":
                self.engine.start(own_name)
        except EngineUnreachableError:
            raise
        except EngineError as error:
            self._fail(name, own_name, error)
            return
        # Docker cannot rename one that it is about to restart: it has no network then.
        with contextlib.suppress(EngineConflictError, EngineNotFoundError):
            self.engine.rename(own_name, name)

    def _fail(self, name: str, own_name: str, error: EngineError) -> None:
        """Mark a container that this client could not start, unless another client has it.

        The Engine also answers "not found" if the network of the container is gone.
        """
        try:
            self.engine.rename(own_name, failed_name(name))
        except EngineConflictError:
            pass
        except EngineNotFoundError:
            if isinstance(error, EngineNotFoundError):
                what = "container %s is started, cancelled or removed by another client"
                _log.debug(what, name)
                return
        _log.warning("cannot start container %s: %s", name, error)

    def _give_up(self, error: EngineError, created: Sequence[str]) -> None:
        """Make the failure final, unless another client has removed the containers meanwhile."""
        rows = rows_of(self.engine, self.app_id)
        if not self._is_overtaken(rows):
            _log.warning("cannot restart app %s: %s", self.app_id, error)
            self._fail_sources(rows)
        self._discard(created)

    def _fail_sources(self, rows: Sequence[ContainerRow]) -> None:
        """Rename the containers that have failed, so that every client reads that as final.

        If only auxiliary ones have, so are the essential ones that were stopped: the app fails.
        """
        ids = {row.id for row in self.sources}
        rows = [row for row in rows if row.id in ids]
        failed = [row for row in rows if replica_state(row, exit_code(row)) is AppState.FAILED]
        if not any(is_essential(self.app, replica_key(row)[0]) for row in failed):
            failed += [row for row in rows if is_restarting_name(row.name)]
        self._mark_failed(failed)

    def _mark_failed(self, rows: Iterable[ContainerRow]) -> None:
        for row in rows:
            with contextlib.suppress(EngineConflictError, EngineNotFoundError):
                self.engine.rename(row.name, failed_name(row.name))

    def _discard(self, ids: Iterable[str]) -> None:
        # A client that has overtaken this one stops a container that runs.
        for one in ids:
            with contextlib.suppress(EngineConflictError):
                self.engine.discard(one)
