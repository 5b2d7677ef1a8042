"""The only module that imports internals of Airflow; tested with Airflow 3.3.2."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from airflow_torchx.errors import AirflowRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from airflow.sdk import Context

    from airflow_torchx.core.task.prune import TaskKey


_Answer = TypeVar("_Answer")

_RUNS_AT_ONCE: Final = 50
#: Requests to Airflow block, and the default threads of the loop belong to other triggers, too.
LOOKUPS: Final = ThreadPoolExecutor(4, "torchx-airflow")
# Of its own: a snapshot is worth less than the state of a task whose trigger was killed.
_SNAPSHOTS: Final = ThreadPoolExecutor(1, "torchx-airflow-snapshots")


@contextmanager
def requesting(what: str) -> Iterator[None]:
    """Raise every error of a request to Airflow as `AirflowRequestError`.

    It catches every type, because the supervisor's socket, the API server, and custom backends of
    XComs or of the task state store raise types of their own.
    """
    try:
        yield
    except Exception as error:
        raise AirflowRequestError(
            f"cannot {what}: {type(error).__name__}: {error}",
            fix="See the logs of the API server and of this worker.",
            status=_status(error),
        ) from error


def _status(error: Exception) -> int | None:
    """Return the HTTP status that the supervisor reports; None without one."""
    from airflow.sdk.exceptions import AirflowRuntimeError

    detail = error.error.detail if isinstance(error, AirflowRuntimeError) else None
    status = detail.get("status_code") if isinstance(detail, dict) else None
    return status if isinstance(status, int) else None


def has_supervisor() -> bool:
    """Return whether this process has Airflow's supervisor, unlike ``dag.test()``."""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import CommsDecoder

    return isinstance(getattr(task_runner, "SUPERVISOR_COMMS", None), CommsDecoder)


def task_state(dag_id: str, run_id: str, task_id: str, map_index: int | None) -> str | None:
    """Return the state of a task instance on the API server.

    It is None after a clear, and ``removed`` for an instance that was deleted. ``map_index`` is
    None or negative if the task is not mapped.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    is_mapped = map_index is not None and map_index >= 0
    states = RuntimeTaskInstance.get_task_states(
        dag_id=dag_id,
        run_ids=[run_id],
        task_ids=[task_id],
        map_index=map_index if is_mapped else None,
    )
    name = f"{task_id}_{map_index}" if is_mapped else task_id
    state = states.get(run_id, {}).get(name, "removed")
    return None if state is None else str(state)


def task_states(tasks: Iterable[TaskKey]) -> dict[TaskKey, str | None]:
    """Return the states of task instances on the API server, `GONE` for those that it lacks.

    A state is None after a clear. It makes one request for each task of a DAG and 50 of its runs.
    It works in a task and in a trigger.

    Raises:
        AirflowRequestError: the API server does not answer, or refuses the request.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    from airflow_torchx.core.task.prune import GONE

    found: dict[TaskKey, str | None] = {}
    for dag_id, task_id, keys in _by_task(tasks):
        # Not for several tasks at once: `a_1` may be a task, or an instance of a mapped task `a`.
        run_ids = sorted({key.run_id for key in keys})
        with requesting("look up the states of tasks"):
            states = RuntimeTaskInstance.get_task_states(
                dag_id=dag_id, run_ids=run_ids, task_ids=[task_id]
            )
        for key in keys:
            name = task_id if key.map_index < 0 else f"{task_id}_{key.map_index}"
            state = states.get(key.run_id, {}).get(name, GONE)
            found[key] = None if state is None else str(state)
    return found


def task_states_in_database(tasks: Iterable[TaskKey]) -> dict[TaskKey, str | None]:
    """Return what `task_states` returns, for a command line that has Airflow's database."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    from airflow_torchx.core.task.prune import GONE

    found: dict[TaskKey, str | None] = {}
    with create_session() as session:
        for dag_id, task_id, keys in _by_task(tasks):
            query = select(TaskInstance.run_id, TaskInstance.map_index, TaskInstance.state).where(
                TaskInstance.dag_id == dag_id,
                TaskInstance.task_id == task_id,
                TaskInstance.run_id.in_({key.run_id for key in keys}),
            )
            states = {(run_id, index): state for run_id, index, state in session.execute(query)}
            for key in keys:
                state = states.get((key.run_id, key.map_index), GONE)
                found[key] = None if state is None else str(state)
    return found


def run_end(task: TaskKey) -> datetime | None:
    """Return when the DAG run of a task instance has ended; None if it has not, or is gone.

    It works in a task.

    Raises:
        AirflowRequestError: the API server does not answer, or refuses the request.
    """
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import DagRunResult, GetDagRun

    question = GetDagRun(dag_id=task.dag_id, run_id=task.run_id)
    try:
        with requesting("look up the end of a DAG run"):
            found = task_runner.SUPERVISOR_COMMS.send(question)
    except AirflowRequestError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise
    return found.end_date if isinstance(found, DagRunResult) else None


def run_end_in_database(task: TaskKey) -> datetime | None:
    """Return what `run_end` returns, for a command line that has Airflow's database."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(DagRun.end_date).where(
            DagRun.dag_id == task.dag_id, DagRun.run_id == task.run_id
        )
        return session.scalars(query).first()


def _by_task(tasks: Iterable[TaskKey]) -> Iterator[tuple[str, str, list[TaskKey]]]:
    """Yield DAG, task, and instances of it, few enough for the URL of one request."""
    groups: dict[tuple[str, str], list[TaskKey]] = {}
    for task in tasks:
        groups.setdefault((task.dag_id, task.task_id), []).append(task)
    for (dag_id, task_id), keys in groups.items():
        for start in range(0, len(keys), _RUNS_AT_ONCE):
            yield dag_id, task_id, keys[start : start + _RUNS_AT_ONCE]


def stats_tags(ti: object) -> dict[str, str]:
    """Return the tags of Airflow's own metrics of a task instance."""
    found = getattr(ti, "stats_tags", None)
    if not isinstance(found, dict):
        found = {name: getattr(ti, name, "") for name in ("dag_id", "task_id")}
    return {str(key): str(value) for key, value in found.items() if value}


def xcom(key: str, dag_id: str, run_id: str, task_id: str, map_index: int | None) -> Any:  # noqa: ANN401 - any JSON
    """Return the latest XCom of a task instance with this key; None without one."""
    from airflow.sdk.execution_time.xcom import XCom

    return XCom.get_one(key=key, dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=map_index)


async def push_snapshot(made: Mapping[str, Any]) -> None:
    """Push the snapshot of an app as an XCom of its task, from a trigger of the task.

    Airflow accepts it from a trigger, but promises nothing about that. It may raise any error.
    """
    from airflow.sdk.execution_time.xcom import XCom

    from airflow_torchx.core.state.snapshot import SNAPSHOT_KEY

    push = partial(XCom.set, key=SNAPSHOT_KEY, value=dict(made), **made["origin"])
    await in_thread(push, _SNAPSHOTS)


async def in_thread(call: Callable[[], _Answer], pool: ThreadPoolExecutor | None = None) -> _Answer:
    """Run a blocking call in a thread, with the context that routes its log lines."""
    context = contextvars.copy_context()
    return await asyncio.wrap_future((pool or LOOKUPS).submit(context.run, call))


def after_report(call: Callable[[], None]) -> None:
    """Call ``call`` once when this process has reported how its task ended, before it exits.

    Airflow logs its exceptions. For some seconds (``[core] task_success_overtime``), the process
    may still ask Airflow for the state of its task.
    """
    from airflow.listeners import hookimpl
    from airflow.sdk.listener import get_listener_manager

    manager = get_listener_manager()

    class Listener:
        @hookimpl
        def before_stopping(self, component: object) -> None:
            del component
            manager.pm.unregister(self)
            if has_supervisor():
                call()

    manager.add_listener(Listener())  # type: ignore[no-untyped-call]


def use_metadata_database() -> None:
    """Let this process find connections in Airflow's database, as ``airflow connections`` does."""
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"


def mask(secrets: Iterable[str]) -> None:
    """Mask these secrets and each form of them in logs from now on.

    Airflow decides which secrets are too short (``[logging] min_length_masked_secret``).
    """
    from airflow.sdk.log import mask_secret

    from airflow_torchx.core.plan.redact import forms_to_mask

    # After each text, Airflow compiles one pattern of all texts so far. The 77 forms of a secret of
    # 1,700 characters took 2.8 s of a core in any order, and 0.6 s when the long ones come last.
    mask_secret([*forms_to_mask(secrets)])


def mask_file(text: str) -> None:
    """Mask a file, which no program gets, in logs from now on: all of it, and each line.

    Other forms of it would make each later `mask` slower: see there.
    """
    from airflow.sdk.log import mask_secret

    mask_secret([*text.splitlines(), text])


def masked(text: str) -> str:
    """Return a text without the secrets that this process knows.

    Airflow masks the log of a task in the supervisor. But the LocalExecutor also writes what the
    task logs to its own output, without masks.
    """
    from airflow.sdk._shared.secrets_masker import redact

    return str(redact(text))


class _Mask(logging.Handler):
    """Masks a record before the handlers of the root logger get it."""

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args = masked(record.getMessage()), ()


_MASK: Final = _Mask()


def mask_log() -> None:
    """Mask from now on what the modules below the operators log, as `masked` does."""
    logging.getLogger(__package__).addHandler(_MASK)


def airflow_env(context: Context) -> dict[str, str]:
    """Return Airflow's ``AIRFLOW_CTX_*`` environment variables of a task."""
    from airflow.sdk.execution_time.context import context_to_airflow_vars

    values: Mapping[str, object] = context_to_airflow_vars(
        cast("Any", context), in_env_var_format=True
    )
    return {name: str(value) for name, value in values.items()}
