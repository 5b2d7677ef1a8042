"""The Engine protocol on a real daemon, one request per method."""

from __future__ import annotations

import logging
import math
import os
from contextlib import ExitStack, suppress
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, urlsplit

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine.labels import OWN_PREFIX, are_in, masked
from airflow_torchx.docker_engine import config_file, peer, responses, usage
from airflow_torchx.docker_engine.clone import clone
from airflow_torchx.docker_engine.connection import open_client, resolve
from airflow_torchx.docker_engine.discard import discard
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.docker_engine.events import WHAT, EventStream, event_params
from airflow_torchx.docker_engine.image_labels import ImageLabels
from airflow_torchx.docker_engine.images import DockerImages
from airflow_torchx.docker_engine.logins import auth_config
from airflow_torchx.docker_engine.removal import remove
from airflow_torchx.docker_engine.request import request
from airflow_torchx.docker_engine.spec import container_json, label_filters, log_params
from airflow_torchx.docker_engine.stream import LogStream
from airflow_torchx.docker_engine.tls_files import on_disk
from airflow_torchx.errors import EngineConflictError, EngineError, EngineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from airflow_torchx.core.engine.containers import (
        ContainerDetail,
        ContainerRow,
        ContainerSpec,
        EngineInfo,
        LogQuery,
        NetworkRow,
        VolumeRow,
    )
    from airflow_torchx.core.engine.images import RegistryLogin
    from airflow_torchx.core.engine.usage import ContainerUsage, Execution
    from airflow_torchx.docker_engine.request import Client, Response

_log = logging.getLogger(__name__)

#: Marks networks that this package created.
NETWORK_LABEL: Final = f"{OWN_PREFIX}network"

#: From this API version on, daemons always check, and the parameter is deprecated.
_CHECKS_DUPLICATES: Final = (1, 44)
#: The answer of the daemon to a rename and to a removal at the same time.
_NO_FILE: Final = "no such file or directory"


class DockerEngine:
    """A Docker daemon as an `Engine`; use `connect` to create one."""

    def __init__(
        self,
        client: Client,
        endpoint: Endpoint,
        logins: Sequence[RegistryLogin] = (),
        on_close: Callable[[], None] = lambda: None,
        *,
        proxy_env: Mapping[str, str] | None = None,
    ) -> None:
        self._client = client
        self._on_close = on_close
        self._endpoint = endpoint
        self._url = str(endpoint.url)
        self._logins = tuple(logins)
        self._proxy_env = proxy_env or {}
        self._image_labels = ImageLabels(client)
        self._images = DockerImages(client, endpoint, self._logins, self._proxy_env)

    @classmethod
    def connect(
        cls, endpoint: Endpoint | None = None, logins: Sequence[RegistryLogin] = ()
    ) -> Self:
        """Connect to a daemon and return it once it has answered.

        Args:
            endpoint: the daemon; None for the one that the docker CLI would use.
            logins: for pulls and pushes; for other registries, those of the docker CLI are used.

        Raises:
            EngineUnreachableError: the daemon does not answer.
            EngineError: the daemon is older than Engine 20.10.
        """
        config = config_file.read(os.environ)
        if config.problem:
            _log.warning("%s", config.problem)
        if config.ignored:
            names, path = ", ".join(config.ignored), config_file.path(os.environ)
            _log.warning("wrong types in the docker configuration %s are ignored: %s", path, names)
        with ExitStack() as files:
            reached = files.enter_context(on_disk(resolve(endpoint or Endpoint(), os.environ)))
            client, proxy_env = open_client(reached, config), config.proxy_env(reached)
            return cls(client, reached, logins, files.pop_all().close, proxy_env=proxy_env)

    @property
    def endpoint(self) -> Endpoint:
        """Return the resolved endpoint; its TLS files exist until the engine is closed."""
        return self._endpoint

    @property
    def client(self) -> Client:
        """Return Docker's client of this daemon, for the requests of a swarm."""
        return self._client

    @property
    def images(self) -> DockerImages:
        """Return the images of the daemon."""
        return self._images

    @property
    def proxy_env(self) -> Mapping[str, str]:
        """Return the environment variables for the proxies of the docker configuration."""
        return self._proxy_env

    def info(self) -> EngineInfo:
        """Describe the daemon."""
        with self._errors("describe the daemon"):
            answer = self._client.info()
        is_socket = self._endpoint.is_socket
        return responses.engine_info(
            answer,
            url=self._url,
            api_version=self._client.api_version,
            is_visible=is_socket and peer.is_visible(urlsplit(self._url).path),
        )

    def find_image(self, ref: str) -> str | None:
        """Return the id of a local image by name, tag, digest or id; None if it does not exist."""
        try:
            with self._errors(f"find image {ref!r}"):
                return str(self._client.inspect_image(ref)["Id"])
        except EngineNotFoundError:
            return None

    def pull(self, ref: str, on_progress: Callable[[str], None]) -> None:
        """Pull an image and wait until it is complete; the default tag is ``latest``."""
        self.images.pull(ref, on_progress)

    def check_login(self, login: RegistryLogin) -> None:
        """Check a login through the daemon, which does not store it.

        Raises:
            EngineError: the registry rejects the login or does not answer.
        """
        with self._errors(f"log in to {login.registry}"):
            request(self._client, "POST", "/auth", json=auth_config(login))

    def networks(self, name: str) -> tuple[NetworkRow, ...]:
        """Return the networks with exactly this name."""
        with self._errors(f"list networks {name!r}"):
            found = self._client.networks(names=[name])
        # Docker treats the name as a regular expression.
        return tuple(responses.network_row(row) for row in found if row["Name"] == name)

    def create_network(self, name: str) -> str:
        """Create a bridge network and return its id."""
        version = tuple(int(number) for number in self._client.api_version.split("."))
        with self._errors(f"create network {name!r}"):
            answer = self._client.create_network(
                name,
                driver="bridge",
                labels={NETWORK_LABEL: "1"},
                check_duplicate=True if version < _CHECKS_DUPLICATES else None,
            )
        return str(answer["Id"])

    def remove_network(self, network_id: str) -> None:
        """Remove a network by id, if it still exists."""
        with suppress(EngineNotFoundError), self._errors(f"remove network {network_id!r}"):
            self._client.remove_network(network_id)

    def create(self, spec: ContainerSpec) -> str:
        """Create a container without starting it, and return its id."""
        with self._errors(f"create container {spec.name!r}"):
            own = masked(self._image_labels.names(spec.image), spec.labels)
            body = container_json(replace(spec, labels=own))
            answer = self._client.create_container_from_config(body, spec.name)
        return str(answer["Id"])

    def clone(
        self, container_id: str, *, name: str, labels: Mapping[str, str], env: Mapping[str, str]
    ) -> str:
        """Create a container configured like another one, and return its id."""
        return clone(self._client, self._url, container_id, name, labels, env)

    def start(self, container_id: str) -> None:
        """Start a created container."""
        with self._errors(f"start container {responses.short_id(container_id)}"):
            self._client.start(container_id)

    def rename(self, container_id: str, name: str) -> None:
        """Rename a container; do nothing if it has that name."""
        try:
            with self._errors(f"rename container {responses.short_id(container_id)} to {name!r}"):
                self._client.rename(container_id, name)
        except EngineError as error:
            if error.status == HTTPStatus.INTERNAL_SERVER_ERROR and _NO_FILE in str(error):
                what = f"container {responses.short_id(container_id)} is being removed"
                raise EngineNotFoundError(what, status=error.status) from error
            # The daemon has one status for a bad name and for the current one.
            if error.status != HTTPStatus.BAD_REQUEST or not self._has_name(container_id, name):
                raise

    def stop(self, container_id: str, grace_s: float) -> None:
        """Stop a container; with ``grace_s=0`` it is killed at once."""
        # The SDK adds the grace period to its request timeout.
        with (
            suppress(EngineNotFoundError),
            self._errors(f"stop container {responses.short_id(container_id)}"),
        ):
            self._client.stop(container_id, timeout=math.ceil(grace_s))

    def signal(self, container_id: str, name: str) -> None:
        """Send a signal to a container, if it runs."""
        with (
            # A conflict means that it does not run.
            suppress(EngineNotFoundError, EngineConflictError),
            self._errors(f"send {name} to container {responses.short_id(container_id)}"),
        ):
            self._client.kill(container_id, signal=name)

    def remove(self, container_id: str) -> None:
        """Remove a container and its anonymous volumes; kill it first if it runs."""
        remove(self._client, self._url, container_id)

    def discard(self, container_id: str) -> bool:
        """Remove a container that does not run, and return whether this call discarded it."""
        return discard(self._client, self._url, container_id)

    def rows(self, labels: Mapping[str, str | None]) -> tuple[ContainerRow, ...]:
        """Return all containers that have all these labels, in one request."""
        with self._errors("list containers"):
            found = self._client.containers(all=True, filters=label_filters(labels))
        # After a rename during its removal, Engine 20.10 lists a container without a name until
        # the daemon restarts, although it has been removed.
        rows = (responses.container_row(row) for row in found if row["Names"])
        # The daemon also lists containers whose label is masked.
        return tuple(row for row in rows if are_in(labels, row.labels))

    def sizes(self, labels: Mapping[str, str | None]) -> dict[str, int]:
        """Return the bytes that containers with these labels have written, by id."""
        with self._errors("list sizes of containers"):
            found = self._client.containers(all=True, size=True, filters=label_filters(labels))
        return {row["Id"]: int(row.get("SizeRw") or 0) for row in found}

    def unused_volumes(self, labels: Mapping[str, str | None]) -> tuple[VolumeRow, ...]:
        """Return the volumes with all these labels that no container mounts, in one request."""
        filters = {**label_filters(labels), "dangling": True}
        with self._errors("list volumes"):
            found = self._client.volumes(filters=filters)["Volumes"]
        return tuple(responses.volume_row(row) for row in found or ())

    def remove_volume(self, name: str) -> bool:
        """Remove a volume that no container mounts, and return whether this call did."""
        try:
            with self._errors(f"remove volume {name!r}"):
                self._client.remove_volume(name)
        except (EngineNotFoundError, EngineConflictError):
            return False
        return True

    def inspect(self, container_id: str) -> ContainerDetail | None:
        """Return the details of a container; None if it does not exist."""
        try:
            with self._errors(f"inspect container {responses.short_id(container_id)}"):
                return responses.container_detail(self._client.inspect_container(container_id))
        except EngineNotFoundError:
            return None

    def logs(self, container_id: str, query: LogQuery) -> LogStream:
        """Open a container's log; the caller closes it unless it reads it to the end."""
        what = f"read the log of container {responses.short_id(container_id)}"
        with self._errors(what):
            response = self._get(f"/containers/{quote(container_id)}/logs", log_params(query))
        return LogStream(response.raw, what=what, url=self._url, follow=query.follow)

    def events(self, *, all_containers: bool = False) -> EventStream:
        """Follow the container events of all apps, or of all containers, from now on."""
        with self._errors(WHAT):
            response = self._get("/events", event_params(all_containers=all_containers))
        lines = LogStream(response.raw, what=WHAT, url=self._url, follow=True)
        return EventStream(lines, self._url)

    def read_file(self, container_id: str, path: str, max_bytes: int) -> bytes:
        """Read one regular file of a container; a symbolic link raises ValueError."""
        return self.images.read_file(container_id, path, max_bytes)

    def archive(self, container_id: str, path: str) -> LogStream:
        """Open a tar of a file or a folder of a container; the caller closes it."""
        what = f"read {path} of container {responses.short_id(container_id)}"
        with self._errors(what):
            response = self._get(f"/containers/{quote(container_id)}/archive", {"path": path})
        return LogStream(response.raw, what=what, url=self._url, follow=False)

    def usage(self, container_id: str) -> ContainerUsage | None:
        """Return what a container uses; None if it does not run, or does not exist."""
        return usage.read(self._client, self._url, container_id)

    def execute(
        self, container_id: str, command: Sequence[str], *, timeout_s: float, max_bytes: int
    ) -> Execution:
        """Run a command in a running container, and return its output and its exit code."""
        return usage.execute(
            self._client, self._url, container_id, command, timeout_s=timeout_s, max_bytes=max_bytes
        )

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._client.close()
        self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _has_name(self, container_id: str, name: str) -> bool:
        with self._errors(f"inspect container {responses.short_id(container_id)}"):
            return bool(self._client.inspect_container(container_id)["Name"] == f"/{name}")

    def _errors(self, what: str) -> AbstractContextManager[None]:
        return engine_errors(what, self._url)

    def _get(self, path: str, params: Mapping[str, Any]) -> Response:
        """Send a GET and return the response with its body unread."""
        headers = {"Accept-Encoding": "identity"}
        return request(self._client, "GET", path, params=params, headers=headers, stream=True)
