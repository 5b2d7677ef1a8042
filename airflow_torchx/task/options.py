"""The options of a task, as its operator passes them on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_torchx.core.task.arguments import OnFinish
from airflow_torchx.core.task.prune import DETACHED

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from airflow_torchx.core.task.arguments import OnWorkerShutdown


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOptions:
    """Task options; see the operator's arguments of the same names."""

    torchx_conn_id: str | None
    docker_conn_ids: tuple[str, ...]
    wait_for_completion: bool
    deferrable: bool
    durable: bool
    on_finish: OnFinish
    on_worker_shutdown: OnWorkerShutdown
    result_path: str | None
    skip_on_exit_code: frozenset[int]
    fail_on_exit_code: frozenset[int]
    log_max_bytes: int
    logging_interval_s: float | None
    execution_timeout: timedelta | None
    secrets: Callable[[], frozenset[str]]

    @property
    def final_exit_codes(self) -> tuple[int, ...]:
        """The exit codes that do not restart the app: they mean the same in the next round."""
        return tuple(self.skip_on_exit_code | self.fail_on_exit_code)

    @property
    def keep(self) -> bool:
        """Whether the containers of an app that did not succeed are kept."""
        return self.on_finish is not OnFinish.DELETE

    @property
    def lifetime(self) -> str:
        """The value of the label that says whether the app may outlive the task."""
        return self.on_finish.value if self.wait_for_completion else DETACHED
