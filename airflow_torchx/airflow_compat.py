"""The only module that imports internals of Airflow; tested with Airflow 3.3.2."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.sdk import Context


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


def xcom(key: str, dag_id: str, run_id: str, task_id: str, map_index: int | None) -> Any:  # noqa: ANN401 - any JSON
    """Return the latest XCom of a task instance with this key; None without one."""
    from airflow.sdk.execution_time.xcom import XCom

    return XCom.get_one(key=key, dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=map_index)


def use_metadata_database() -> None:
    """Let this process find connections in Airflow's database, as ``airflow connections`` does."""
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"


def mask(secrets: Iterable[str]) -> None:
    """Mask these secrets and each form of them in logs from now on.

    Airflow decides which secrets are too short (``[logging] min_length_masked_secret``).
    """
    from airflow.sdk.log import mask_secret

    from airflow_torchx.core.plan.redact import secret_forms

    mask_secret([form for secret in secrets for form in {secret, *secret_forms(secret)}])


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
