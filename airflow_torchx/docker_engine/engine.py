"""Every verb of `airflow_torchx.core.engine.protocol.Engine` on a real daemon, one request each."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine.labels import OWN_PREFIX
from airflow_torchx.docker_engine import answers
from airflow_torchx.docker_engine.archive import read_sole_file
from airflow_torchx.docker_engine.connection import open_client, resolve
from airflow_torchx.docker_engine.errors import asking
from airflow_torchx.docker_engine.events import PARAMS, WHAT, EventStream
from airflow_torchx.docker_engine.images import DockerImages
from airflow_torchx.docker_engine.logins import entry
from airflow_torchx.docker_engine.pull import pull
from airflow_torchx.docker_engine.spec import (
    container_json,
    label_filters,
    log_params,
    whole_seconds,
)
from airflow_torchx.docker_engine.stream import LogStream
from airflow_torchx.docker_engine.tls_files import on_disk
from airflow_torchx.errors import EngineConflictError, EngineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from airflow_torchx.core.engine.containers import (
        ContainerDetail,
        ContainerRow,
        ContainerSpec,
        EngineInfo,
        LogQuery,
        NetworkRow,
    )
    from airflow_torchx.core.engine.images import RegistryLogin

#: On networks that this package has created.
NETWORK_LABEL: Final = f"{OWN_PREFIX}network"

#: Newer daemons always check, and call the parameter deprecated.
_CHECKS_DUPLICATES: Final = (1, 44)


class DockerEngine:
    """A Docker daemon, as `engine.Engine` promises it; make one with `connect`.

    Args:
        client: a `docker.APIClient`; closed with the engine.
        endpoint: how it reaches the daemon; resolved, with its TLS material in files.
        logins: for pulls and pushes; they go before those of the docker client.
        on_close: called once the client is closed, each time.
    """

    def __init__(
        self,
        client: Any,  # noqa: ANN401 - the SDK has no types
        endpoint: Endpoint,
        logins: Sequence[RegistryLogin] = (),
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._on_close = on_close
        self._endpoint = endpoint
        self._url = str(endpoint.url)
        self._logins = tuple(logins)
        self._images = DockerImages(client, endpoint, self._logins)

    @classmethod
    def connect(
        cls, endpoint: Endpoint | None = None, logins: Sequence[RegistryLogin] = ()
    ) -> Self:
        """Return an engine whose daemon has answered.

        Args:
            endpoint: how to reach it; None for the daemon that the docker command line would use.
            logins: for pulls and pushes; where none of them is for a registry, those of the docker
                client are used.

        Raises:
            EngineUnreachableError: it does not answer, and why.
            EngineError: it is older than Engine 20.10.
        """
        with ExitStack() as files:
            reached = files.enter_context(on_disk(resolve(endpoint or Endpoint(), os.environ)))
            return cls(open_client(reached), reached, logins, files.pop_all().close)

    @property
    def endpoint(self) -> Endpoint:
        """How it reaches the daemon; until it is closed, its TLS material is in files."""
        return self._endpoint

    @property
    def images(self) -> DockerImages:
        """The verbs on images."""
        return self._images

    def info(self) -> EngineInfo:
        """Describe the daemon."""
        with self._asking("describe the daemon"):
            answer = self._client.info()
        return answers.engine_info(answer, url=self._url, api_version=self._client.api_version)

    def find_image(self, ref: str) -> str | None:
        """Return the id of a local image by name, tag, digest or id; None if it is not there."""
        try:
            with self._asking(f"find image {ref!r}"):
                return str(self._client.inspect_image(ref)["Id"])
        except EngineNotFoundError:
            return None

    def pull(self, ref: str, on_progress: Callable[[str], None]) -> None:
        """Pull an image, tag ``latest`` if it has none, and wait until it is there.

        Raises:
            ImagePullError: also for an error in the stream, and for one that ends early.
        """
        pull(self._client, self._url, ref, self._logins, on_progress)

    def check_login(self, login: RegistryLogin) -> None:
        """Ask a registry, through the daemon, whether it takes a login; nothing is kept of it.

        Raises:
            EngineError: it does not, or cannot be asked.
        """
        with self._asking(f"log in to {login.registry}"):
            self._client.post(
                f"{self._client.base_url}/v{self._client.api_version}/auth",
                json=entry(login),
                timeout=self._client.timeout,
            ).raise_for_status()

    def networks(self, name: str) -> tuple[NetworkRow, ...]:
        """Return the networks of exactly this name."""
        with self._asking(f"list networks {name!r}"):
            found = self._client.networks(names=[name])
        # Docker takes the name as a regular expression.
        return tuple(answers.network_row(row) for row in found if row["Name"] == name)

    def create_network(self, name: str) -> str:
        """Create a bridge network and return its id."""
        version = tuple(int(number) for number in self._client.api_version.split("."))
        with self._asking(f"create network {name!r}"):
            answer = self._client.create_network(
                name,
                driver="bridge",
                labels={NETWORK_LABEL: "1"},
                check_duplicate=True if version < _CHECKS_DUPLICATES else None,
            )
        return str(answer["Id"])

    def remove_network(self, network_id: str) -> None:
        """Remove a network by id; one that is gone already is no error."""
        with suppress(EngineNotFoundError), self._asking(f"remove network {network_id!r}"):
            self._client.remove_network(network_id)

    def create(self, spec: ContainerSpec) -> str:
        """Create a container without starting it, and return its id."""
        with self._asking(f"create container {spec.name!r}"):
            answer = self._client.create_container_from_config(container_json(spec), spec.name)
        return str(answer["Id"])

    def start(self, container_id: str) -> None:
        """Start a created container."""
        with self._asking(f"start container {answers.short_id(container_id)}"):
            self._client.start(container_id)

    def rename(self, container_id: str, name: str) -> None:
        """Give a container another name."""
        with self._asking(f"rename container {answers.short_id(container_id)} to {name!r}"):
            self._client.rename(container_id, name)

    def stop(self, container_id: str, grace_s: float) -> None:
        """Stop a container; 0 seconds of grace kill it at once."""
        # The SDK waits for an answer as much longer as the grace is long.
        with (
            suppress(EngineNotFoundError),
            self._asking(f"stop container {answers.short_id(container_id)}"),
        ):
            self._client.stop(container_id, timeout=whole_seconds(grace_s))

    def remove(self, container_id: str) -> None:
        """Remove a container with its anonymous volumes, killing it first if it runs."""
        # With force, a daemon's only conflict is that somebody else removes it at this moment; the
        # list may call it running until then.
        gone = suppress(EngineNotFoundError, EngineConflictError)
        with gone, self._asking(f"remove container {answers.short_id(container_id)}"):
            self._client.remove_container(container_id, v=True, force=True)

    def rows(self, labels: Mapping[str, str | None]) -> tuple[ContainerRow, ...]:
        """Return all containers that carry all these labels, in one call."""
        with self._asking("list containers"):
            found = self._client.containers(all=True, filters=label_filters(labels))
        return tuple(answers.container_row(row) for row in found)

    def inspect(self, container_id: str) -> ContainerDetail | None:
        """Return what only an inspect tells; None when the container is gone."""
        try:
            with self._asking(f"inspect container {answers.short_id(container_id)}"):
                return answers.container_detail(self._client.inspect_container(container_id))
        except EngineNotFoundError:
            return None

    def logs(self, container_id: str, query: LogQuery) -> LogStream:
        """Open a container's log; close it when it is not read to its end."""
        what = f"read the log of container {answers.short_id(container_id)}"
        with self._asking(what):
            response = self._get(f"/containers/{quote(container_id)}/logs", log_params(query))
        return LogStream(response.raw, what=what, url=self._url, follow=query.follow)

    def events(self) -> EventStream:
        """Follow what happens to the containers of all apps, from now on."""
        with self._asking(WHAT):
            response = self._get("/events", PARAMS)
        lines = LogStream(response.raw, what=WHAT, url=self._url, follow=True)
        return EventStream(lines, self._url)

    def read_file(self, container_id: str, path: str, max_bytes: int) -> bytes:
        """Read one regular file of a container; a symbolic link at the end is a ValueError."""
        with self._asking(f"read {path} of container {answers.short_id(container_id)}"):
            response = self._get(f"/containers/{quote(container_id)}/archive", {"path": path})
            try:
                return read_sole_file(response.raw, path, max_bytes)
            finally:
                response.raw.close()  # what is left of a large file is not waited for

    def close(self) -> None:
        """Give connections back. Idempotent."""
        self._client.close()
        self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def _asking(self, what: str) -> AbstractContextManager[None]:
        return asking(what, self._url)

    def _get(self, path: str, params: Mapping[str, Any]) -> Any:  # noqa: ANN401 - see __init__
        """Send a GET whose answer is read by the caller; the SDK would read it its own way."""
        response = self._client.get(
            f"{self._client.base_url}/v{self._client.api_version}{path}",
            params=params,
            headers={"Accept-Encoding": "identity"},
            stream=True,
            timeout=self._client.timeout,
        )
        response.raise_for_status()
        return response
