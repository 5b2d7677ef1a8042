"""What a running task asks of Airflow, and tells it."""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_torchx.airflow_compat import airflow_env, has_supervisor, task_state
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.core.task.record import RECORD_KEY, TaskRecord
from airflow_torchx.core.task.shutdown import UNKNOWN
from airflow_torchx.errors import AirflowRequestError
from airflow_torchx.task.lineage import parent_env

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import Context

#: XCom keys.
HANDLE_KEY: Final = "app_handle"
APP_ID_KEY: Final = "app_id"
CONTAINERS_KEY: Final = "container_ids"
IMAGES_KEY: Final = "image_ids"
REPLICAS_KEY: Final = "replicas"

# A task that is told to end has 5 s, and waits this long for a request that is under way.
_PUSH_S: Final = 0.5


class TaskContext:
    """One running task instance.

    Args:
        context: what Airflow gives to `execute`.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ti: Any = context["ti"]
        #: What was pushed, by its key.
        self.pushed: dict[str, object] = {}
        self._parent = os.getppid() if has_supervisor() else None

    @property
    def attempt(self) -> TaskAttempt:
        """The attempt that runs."""
        ti = self._ti
        return TaskAttempt(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            max_tries=ti.max_tries,
            try_number=ti.try_number,
        )

    @property
    def retry_left(self) -> bool:
        """Whether another try comes if this one fails."""
        return bool(self._ti.try_number <= self._ti.max_tries)

    @property
    def is_orphaned(self) -> bool:
        """Whether Airflow's supervisor of this process has died.

        Nobody hears this process any more then, and sooner or later another one has the task.
        """
        return self._parent is not None and os.getppid() != self._parent

    def deadline_s(self, execution_timeout: timedelta | None) -> float | None:
        """Return when the task must have ended, seconds since 1970; None for never.

        Airflow counts the timeout of a task anew after each deferral, so the start of the try
        counts here, which it keeps.
        """
        if execution_timeout is None:
            return None
        started = self._ti.start_date
        start_s = started.timestamp() if started else time.time()
        return float(start_s + execution_timeout.total_seconds())

    def state(self, timeout_s: float) -> str | None:
        """Return the state that the server has of the task instance, None if it has none.

        Returns:
            `UNKNOWN` too, if no answer came within ``timeout_s`` seconds, or an error.
        """
        found: list[str | None] = []
        attempt = self.attempt

        def look_up() -> None:
            with contextlib.suppress(AirflowRequestError), _requesting("look up the task's state"):
                found.append(
                    task_state(attempt.dag_id, attempt.run_id, attempt.task_id, attempt.map_index)
                )

        # In a thread, because the server may take longer than a killed task has left to live.
        thread = threading.Thread(target=look_up, name="task-state", daemon=True)
        thread.start()
        thread.join(timeout_s)
        return found[0] if found else UNKNOWN

    def push(self, key: str, value: object) -> None:
        """Push an XCom.

        Raises:
            AirflowRequestError: Airflow did not take it.
        """
        self.pushed[key] = value
        with _requesting(f"push the XCom {key!r}"):
            self._ti.xcom_push(key, value)

    @contextlib.contextmanager
    def pushing(self, values: Mapping[str, object]) -> Iterator[Callable[[], None]]:
        """Push XComs in a thread while the block runs; it must not send requests of its own.

        Each push waits some 15 ms for the API server.

        Yields:
            A function that raises the error of a failed push; call it now and then.

        Raises:
            AirflowRequestError: Airflow did not take one; the rest is not pushed.
        """
        errors: list[AirflowRequestError] = []

        def push_all() -> None:
            try:
                for key, value in values.items():
                    self.push(key, value)
            except AirflowRequestError as why:
                errors.append(why)

        def check() -> None:
            if errors:
                raise errors[0]

        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(push_all,), name="push", daemon=True)
        thread.start()
        try:
            yield check
        except BaseException:
            thread.join(_PUSH_S)
            raise
        thread.join()
        check()

    def load_record(self) -> TaskRecord | None:
        """Return what this task wrote down in an earlier try.

        Raises:
            AirflowRequestError: Airflow did not tell.
        """
        store = self._store()
        with _requesting("read the task's record"):
            return TaskRecord.parse(store.get(RECORD_KEY)) if store is not None else None

    def save_record(self, record: TaskRecord) -> None:
        """Write a record for later tries.

        Raises:
            AirflowRequestError: Airflow did not take it.
        """
        store = self._store()
        if store is not None:
            with _requesting(f"write the task's record ({record.phase})"):
                store.set(RECORD_KEY, record.to_json())

    def ambient_env(self) -> dict[str, str]:
        """Return the variables that tell a program its task, its trace and its parent run."""
        return airflow_env(self._context) | _trace() | parent_env(self._ti)

    def _store(self) -> Any:  # noqa: ANN401 - Airflow's accessor
        return self._context.get("task_state_store")


@contextlib.contextmanager
def _requesting(what: str) -> Iterator[None]:
    """Raise whatever a request to Airflow raises as one type.

    Where an error comes from counts, not its type: the supervisor's socket, the API server, and a
    custom backend of XComs or of the task state store raise their own.
    """
    try:
        yield
    except Exception as why:
        raise AirflowRequestError(
            f"cannot {what}: {type(why).__name__}: {why}",
            fix="See the log of the API server and of this worker.",
            status=_status(why),
        ) from why


def _status(why: Exception) -> int | None:
    """Return the HTTP status that the supervisor passes on."""
    detail = why.error.detail if isinstance(why, AirflowRuntimeError) else None
    status = detail.get("status_code") if isinstance(detail, dict) else None
    return status if isinstance(status, int) else None


def secret_env(private: Mapping[str, str], conn_ids: Sequence[str]) -> dict[str, str]:
    """Return secret variables, with these connections in Airflow's own form among them.

    Their values, and each line of them, are masked in logs from now on.
    """
    from airflow.sdk import BaseHook
    from airflow.sdk.log import mask_secret

    secrets = dict(private)
    for conn_id in conn_ids:
        secrets[f"AIRFLOW_CONN_{conn_id.upper()}"] = BaseHook.get_connection(conn_id).get_uri()
    for value in secrets.values():
        for text in {value, *value.splitlines()}:
            mask_secret(text)
    return secrets


def _trace() -> dict[str, str]:
    """Return the trace that this task is a part of, the way processes hand it on."""
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return {key.upper(): value for key, value in carrier.items() if key in _TRACE}


_TRACE: Final = ("traceparent", "tracestate")
