"""The hook: from an Airflow connection to a scheduler on its daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow.sdk import BaseHook

from airflow_torchx.core.endpoint import Endpoint

if TYPE_CHECKING:
    from airflow_torchx.schedulers.docker_scheduler import DockerScheduler

#: Session in app handles when no connection is named; TorchX's own default.
DEFAULT_SESSION: Final = "torchx"


class TorchXDockerHook(BaseHook):
    """Reaches one Docker daemon.

    Args:
        torchx_conn_id: connection whose host is the daemon's URL (``unix://``, ``tcp://`` or
            ``ssh://``) and whose extra takes the fields of `core.endpoint.Endpoint`; None for the
            daemon that the docker command line would use.
    """

    conn_name_attr = "torchx_conn_id"
    default_conn_name = "torchx_docker_default"
    conn_type = "torchx_docker"
    hook_name = "TorchX Docker"

    def __init__(self, torchx_conn_id: str | None = None) -> None:
        super().__init__()
        self.torchx_conn_id = torchx_conn_id

    def endpoint(self) -> Endpoint:
        """Return how to reach the daemon.

        Raises:
            AirflowNotFoundException: there is no such connection.
            InvalidAppError: a field of the connection is wrong, and which.
        """
        if self.torchx_conn_id is None:
            return Endpoint()
        connection = self.get_connection(self.torchx_conn_id)
        return Endpoint.parse(connection.host, connection.extra_dejson)

    def get_conn(self) -> DockerScheduler:
        """Return a scheduler on the daemon; close it, or use it as a context manager.

        Raises:
            EngineUnreachableError: no daemon answers.
        """
        from airflow_torchx.docker_engine import DockerEngine
        from airflow_torchx.schedulers.docker_scheduler import DockerScheduler

        engine = DockerEngine.connect(self.endpoint())
        return DockerScheduler(self.torchx_conn_id or DEFAULT_SESSION, engine)

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether the daemon answers, and what it is."""
        from airflow_torchx.docker_engine import DockerEngine, why_unreachable

        why = why_unreachable(self.endpoint())
        if why is not None:
            return False, why
        with DockerEngine.connect(self.endpoint()) as engine:
            info = engine.info()
        return True, f"Docker {info.version} on {info.os} at {info.url}, {info.cpus} cpus"
