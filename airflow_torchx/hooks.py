"""The hook: from an Airflow connection to a scheduler on its daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseHook

from airflow_torchx.core.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.schedulers.docker_scheduler import DockerScheduler

#: Session in app handles when no connection is named; TorchX's own default.
DEFAULT_SESSION: Final = "torchx"


def object_storage(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path on it; ``s3://conn_id@bucket/…`` has a login."""
    from airflow.sdk import ObjectStoragePath

    place = ObjectStoragePath(url)
    return place.fs, place.path


class TorchXDockerHook(BaseHook):
    """Reaches one Docker daemon.

    Args:
        torchx_conn_id: connection whose host is the daemon's URL (``unix://``, ``tcp://`` or
            ``ssh://``) and whose extra takes the fields of `core.endpoint.Endpoint`; None for the
            daemon that the docker command line would use.
        docker_conn_ids: connections of type ``docker``, one for each registry that needs a login;
            without one for a registry, the docker command line's own logins count.
    """

    conn_name_attr = "torchx_conn_id"
    default_conn_name = "torchx_docker_default"
    conn_type = "torchx_docker"
    hook_name = "TorchX Docker"

    def __init__(
        self, torchx_conn_id: str | None = None, docker_conn_ids: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.torchx_conn_id = torchx_conn_id
        self.docker_conn_ids = docker_conn_ids

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
            InvalidAppError: a connection is wrong, and which field of it.
        """
        from airflow_torchx.docker_engine import DockerEngine
        from airflow_torchx.registries import logins_from
        from airflow_torchx.schedulers.docker_scheduler import DockerScheduler

        engine = DockerEngine.connect(self.endpoint(), logins_from(self.docker_conn_ids))
        session = self.torchx_conn_id or DEFAULT_SESSION
        return DockerScheduler(session, engine, filesystem=object_storage, terminal=False)

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether the daemon answers, and what it is."""
        from airflow_torchx.docker_engine import DockerEngine, why_unreachable

        why = why_unreachable(self.endpoint())
        if why is not None:
            return False, why
        with DockerEngine.connect(self.endpoint()) as engine:
            info = engine.info()
        return True, f"Docker {info.version} on {info.os} at {info.url}, {info.cpus} cpus"
