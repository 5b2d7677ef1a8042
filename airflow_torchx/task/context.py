"""The running task's access to Airflow: its state, XComs, record, metrics and context."""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.airflow_compat import (
    airflow_env,
    has_supervisor,
    mask,
    requesting,
    stats_tags,
    task_state,
)
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.core.plan.job_plan import copied_env
from airflow_torchx.core.plan.redact import proxy_secrets
from airflow_torchx.core.task.record import RECORD_KEY, TaskRecord
from airflow_torchx.core.task.shutdown import UNKNOWN
from airflow_torchx.errors import AirflowRequestError
from airflow_torchx.task.lineage import parent_env
from airflow_torchx.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_torchx.schedulers.docker_scheduler import DockerScheduler

#: XCom keys.
HANDLE_KEY: Final = "app_handle"
APP_ID_KEY: Final = "app_id"
CONTAINERS_KEY: Final = "container_ids"
IMAGES_KEY: Final = "image_ids"
REPLICAS_KEY: Final = "replicas"
PROGRESS_KEY: Final = "progress"

# Airflow kills a task 5 s after SIGTERM; this much of it may go to a pending request.
_REQUEST_S: Final = 0.5


class TaskContext:
    """One running task instance; a request to Airflow that fails raises AirflowRequestError.

    Args:
        context: the context that Airflow passes to `execute`.
        is_resumed: whether the task continues after a deferral.
    """

    def __init__(self, context: Context, *, is_resumed: bool = False) -> None:
        self._context = context
        self._is_resumed = is_resumed
        self._ti: Any = context["ti"]
        #: The XComs of this process, by key.
        self.pushed: dict[str, object] = {}
        #: The metrics and spans of this process.
        self.telemetry = Telemetry(stats_tags(self._ti))
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
        """Whether Airflow retries the task if this try fails."""
        return bool(self._ti.try_number <= self._ti.max_tries)

    @property
    def may_have_app(self) -> bool:
        """Whether an earlier process may have launched an app."""
        return self._is_resumed or self._ti.try_number > 1

    @property
    def is_orphaned(self) -> bool:
        """Whether Airflow's supervisor of this process has died.

        Airflow then ignores this process, and may already run the task in another one.
        """
        return self._parent is not None and os.getppid() != self._parent

    def deadline_s(self, execution_timeout: timedelta | None) -> float | None:
        """Return when the task must have ended, in seconds since 1970; None for no limit.

        Airflow restarts the timeout of a task after each deferral, so this counts from the start of
        the try, which Airflow keeps.
        """
        if execution_timeout is None:
            return None
        started = self._ti.start_date
        start_s = started.timestamp() if started else time.time()
        return float(start_s + execution_timeout.total_seconds())

    def state(self, timeout_s: float) -> str | None:
        """Return the state of the task instance on the API server; None after a clear.

        It is `UNKNOWN` if the request fails or takes longer than ``timeout_s`` seconds.
        """
        found: list[str | None] = []
        attempt = self.attempt

        def look_up() -> None:
            with contextlib.suppress(AirflowRequestError), requesting("look up the task's state"):
                found.append(
                    task_state(attempt.dag_id, attempt.run_id, attempt.task_id, attempt.map_index)
                )

        # In a thread, because the server may answer after Airflow kills this process.
        thread = threading.Thread(target=look_up, name="task-state", daemon=True)
        thread.start()
        thread.join(timeout_s)
        return found[0] if found else UNKNOWN

    def push(self, key: str, value: object) -> None:
        """Push an XCom."""
        self.pushed[key] = value
        with requesting(f"push the XCom {key!r}"):
            self._ti.xcom_push(key, value)

    @contextlib.contextmanager
    def meanwhile(self, *requests: Callable[[], None]) -> Iterator[Callable[[], None]]:
        """Send requests in a thread while the block runs; the block must not send requests.

        Each request waits about 15 ms for the API server.

        Yields:
            A function that raises the error of a failed request, after which no more are sent; call
            it repeatedly.
        """
        errors: list[AirflowRequestError] = []

        def send_all() -> None:
            try:
                for send in requests:
                    send()
            except AirflowRequestError as error:
                errors.append(error)

        def check() -> None:
            if errors:
                raise errors[0]

        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(send_all,), name="requests", daemon=True
        )
        thread.start()
        try:
            yield check
        except BaseException:
            thread.join(_REQUEST_S)
            raise
        thread.join()
        check()

    def load_record(self) -> TaskRecord | None:
        """Return the record that an earlier try of this task saved; None without one."""
        store = self._store()
        with requesting("read the task's record"):
            return TaskRecord.parse(store.get(RECORD_KEY)) if store is not None else None

    def save_record(self, record: TaskRecord) -> None:
        """Save a record for later tries."""
        store = self._store()
        if store is not None:
            with requesting(f"save the task's record ({record.phase})"):
                store.set(RECORD_KEY, record.to_json())

    def store(self, key: str, value: object) -> None:
        """Store a value for later tries, and for readers of Airflow's API."""
        store = self._store()
        if store is not None:
            with requesting(f"store {key!r}"):
                store.set(key, value)

    def annotate_assets(self, key: str, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Add a value to the event of each asset that is an outlet of the task.

        What the event has under this key stays. Of an alias, the asset is not known here.
        """
        from airflow.sdk import Asset

        events, task = self._context.get("outlet_events"), self._context.get("task")
        if events is None or task is None:
            return
        for outlet in task.outlets:
            if isinstance(outlet, Asset):
                events[outlet].extra.setdefault(key, value)

    def ambient_env(self) -> dict[str, str]:
        """Return environment variables that name the task, its trace and its OpenLineage run."""
        return airflow_env(self._context) | _trace() | parent_env(self._ti)

    def _store(self) -> Any:  # noqa: ANN401 - Airflow's accessor
        return self._context.get("task_state_store")


def secret_env(private: Mapping[str, str], conn_ids: Sequence[str]) -> dict[str, str]:
    """Return secret environment variables, and mask each form of their values from now on.

    They are ``private``, and ``AIRFLOW_CONN_<ID>`` with the URI of each connection.

    Raises:
        InvalidAppError: a connection does not exist.
    """
    from airflow_torchx.hooks import get_connection

    secrets, fix = dict(private), "add it, or remove it from env_conn_ids"
    for conn_id in conn_ids:
        found = get_connection(conn_id, "env_conn_ids", fix)
        secrets[f"AIRFLOW_CONN_{conn_id.upper()}"] = found.get_uri()
    mask(secrets.values())
    return secrets


def known_secrets(
    scheduler: DockerScheduler,
    options: Callable[[], Mapping[str, Any] | None],
    secrets: Mapping[str, str],
) -> frozenset[str]:
    """Return the values that no output shows: secret and copied variables, logins of proxies."""
    copied = copied_env(scheduler.options(options()).copy_env, os.environ)
    return proxy_secrets(scheduler.engine.proxy_env).union(secrets.values(), copied.values())


def _trace() -> dict[str, str]:
    """Return the W3C trace context of this task as environment variables."""
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return {key.upper(): value for key, value in carrier.items() if key in _TRACE}


_TRACE: Final = ("traceparent", "tracestate")
