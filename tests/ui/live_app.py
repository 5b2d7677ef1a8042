"""The page's server with its routes of running apps, on the fake engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.core.plan.job_plan import LaunchContext, plan
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.errors import InvalidAppError, Problem
from airflow_torchx.runtime import launching
from airflow_torchx.specs import AppDef, Role
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from airflow_torchx.ui.daemons import Daemons
from airflow_torchx.ui.live import Live

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.testing import Verb

RUN: Final = "manual__2026-11-24T03:00:00+00:00"
OURS: Final = TaskAttempt(
    dag_id="train", run_id=RUN, task_id="gang", map_index=-1, max_tries=1, try_number=2
)


def handle_of(attempt: TaskAttempt, session: str = "gpu_host") -> str:
    """Return the handle of a task's app."""
    return f"local_docker://{session}/{attempt.app_id}"


def path_of(attempt: TaskAttempt, route: str, **query: object) -> str:
    """Return the address of a route for an app, below the page's prefix."""
    ids = [attempt.dag_id, attempt.run_id, attempt.task_id, str(attempt.map_index)]
    found = {"handle": handle_of(attempt), **query}
    text = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in found.items())
    return f"/api/v1/{'/'.join(quote(one, safe='') for one in ids)}/{route}?{text}"


@dataclass
class LiveApps:
    """A daemon with apps of tasks, and what answers questions about them.

    Args:
        answer_s: seconds until a reader gets 504.
        before: see `FakeEngine`; may be replaced.
    """

    answer_s: float = 30.0
    before: Callable[[Verb, str], object] = lambda *_: None
    program: Program = Program(runs_for_s=None, lines=["one", "two"])  # noqa: RUF009 - frozen
    clock: ManualClock = field(default_factory=ManualClock)
    #: The connections that were looked up.
    lookups: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = FakeEngine(
            images=["busybox"],
            programs=lambda _: self.program,
            before=self._before,
            clock=self.clock,
            sleep=self.clock.sleep,
        )
        daemons = Daemons(self._lookup, self._connect, self.clock)
        self.live = Live(daemons, self.answer_s, self.clock, self.clock)

    def launch(self, attempt: TaskAttempt = OURS, replicas: int = 2) -> None:
        """Launch the app of a task."""
        role = Role("trainer", "busybox", entrypoint="run", num_replicas=replicas)
        context = LaunchContext(
            app_id=attempt.app_id,
            handle=handle_of(attempt),
            launch_id=attempt.app_id[-20:],
            environ={},
            labels=attempt.labels,
        )
        launching.launch(self.engine, plan(AppDef("app", [role]), Opts.parse({}), context))
        self.engine.calls.clear()

    def remove_all(self) -> None:
        """Remove all containers."""
        for row in self.engine.rows({}):
            self.engine.remove(row.id)

    def _before(self, verb: Verb, name: str) -> None:
        self.before(verb, name)

    def _lookup(self, conn_id: str | None) -> Endpoint:
        self.lookups.append(conn_id)
        if conn_id not in {"gpu_host", None}:
            problem = Problem("torchx_conn_id", f"no connection {conn_id!r}", "add it")
            raise InvalidAppError([problem], subject="connection")
        return Endpoint(url="tcp://secret-host:2376")

    def _connect(self, _: Endpoint) -> Engine:
        return self.engine


def states(answer: dict[str, Any]) -> list[str]:
    """Return the states of the replicas in an answer."""
    roles = answer["snapshot"]["roles"]
    return [replica["state"] for role in roles for replica in role["replicas"]]
