"""The errors of an app that failed."""

from __future__ import annotations

from typing import Any

from airflow_torchx.errors.base import AirflowTorchXError


class AppFailedError(AirflowTorchXError):
    """The app failed.

    Args:
        app_id: the app.
        card: the report to print: first failure, table of replicas, last log lines.
        exit_code: of the first worker of torchrun to fail, else of the first replica to fail; None
            if its container is gone.
        replica: role and index of the first replica to fail, like ``trainer/1``.
        worker: the `specs.WorkerFailure` of that worker; None if none is known.
        rule: name of the failure rule that explains the failure; empty without one.
    """

    def __init__(
        self,
        app_id: str,
        card: str,
        *,
        exit_code: int | None = None,
        replica: str = "",
        worker: Any = None,  # noqa: ANN401 - of specs, which imports this module
        rule: str = "",
    ) -> None:
        self.app_id = app_id
        self.card = card
        self.exit_code = exit_code
        self.replica = replica
        self.worker = worker
        self.rule = rule
        super().__init__(card)


class OutOfMemoryError(AppFailedError):
    """The app failed because its first replica to fail ran out of memory."""


class ReplicaLostError(AppFailedError):
    """The app failed because the container of a replica is gone from the daemon."""


class StalledError(AppFailedError):
    """The app was stopped because it made no progress (``stalled_after_s``)."""


class CudaOutOfMemoryError(AppFailedError):
    """The app failed because a GPU had too little memory (rule ``cuda_out_of_memory``)."""


class GpuLostError(AppFailedError):
    """The app failed because a GPU broke or was lost (rules ``gpu_hardware`` and ``gpu_lost``)."""
