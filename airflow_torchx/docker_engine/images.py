"""The Images protocol on a real daemon."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from airflow_torchx.core.engine.labels import masked
from airflow_torchx.docker_engine import buildkit
from airflow_torchx.docker_engine.archive import read_sole_file
from airflow_torchx.docker_engine.build import build
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.docker_engine.pull import pull
from airflow_torchx.docker_engine.push import is_published, push
from airflow_torchx.docker_engine.removal import remove
from airflow_torchx.docker_engine.request import request, upload
from airflow_torchx.docker_engine.responses import image_detail, image_row, short_id
from airflow_torchx.docker_engine.spec import label_filters
from airflow_torchx.errors import EngineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.core.engine.images import BuildSpec, ImageDetail, ImageRow, RegistryLogin
    from airflow_torchx.docker_engine.request import Client

#: Docker refuses to create a container without a command, and some images, for example those of
#: `docker import`, have none.
_PLACEHOLDER: Final = ["airflow-torchx-never-starts-this"]
#: Fields of an image that its containers do not inherit.
_NOT_INHERITED: Final = ("OnBuild", "Shell", "StopTimeout")
#: Fields of a container that an image must not have.
_OF_CONTAINERS: Final = ("Hostname", "Domainname", "Image")


class DockerImages:
    """The images of a Docker daemon; its endpoint is resolved."""

    def __init__(
        self,
        client: Client,
        endpoint: Endpoint,
        logins: Sequence[RegistryLogin],
        proxy_env: Mapping[str, str],
    ) -> None:
        self._client = client
        self._proxy_env = proxy_env
        self._endpoint = endpoint
        self._url = str(endpoint.url)
        self._logins = tuple(logins)

    def rows(self, labels: Mapping[str, str | None]) -> tuple[ImageRow, ...]:
        """Return the images that have all these labels, in one request."""
        with self._errors("list images"):
            found = self._client.images(filters=label_filters(labels))
        return tuple(image_row(row) for row in found)

    def inspect(self, ref: str) -> ImageDetail | None:
        """Return the details of an image; None if it does not exist."""
        try:
            with self._errors(f"inspect image {ref!r}"):
                return image_detail(self._client.inspect_image(ref))
        except EngineNotFoundError:
            return None

    def pull(self, ref: str, on_progress: Callable[[str], None]) -> None:
        """Pull an image and wait until it is complete; the default tag is ``latest``."""
        pull(self._client, self._url, ref, self._logins, on_progress)

    def prepare(self, ref: str, name: str, labels: Mapping[str, str]) -> str:
        """Create a container for adding files to an image, and return its id; it never runs."""
        with self._errors(f"create container {name!r}"):
            image = self._client.inspect_image(ref)
            config = image["Config"] or {}
            body = {key: config[key] for key in _NOT_INHERITED if config.get(key)}
            if not (config.get("Cmd") or config.get("Entrypoint")):
                body["Entrypoint"] = _PLACEHOLDER
            answer = self._client.create_container_from_config(
                {
                    **body,
                    "Image": image["Id"],
                    "Labels": masked(config.get("Labels") or (), labels),
                    "HostConfig": {"NetworkMode": "none"},
                },
                name,
            )
        return str(answer["Id"])

    def put_files(self, container_id: str, files: Iterable[bytes], *, replace: bool = True) -> None:
        """Unpack an uncompressed tar at the root of a container."""
        path, params = f"/containers/{quote(container_id)}/archive", {"path": "/"}
        if not replace:
            params["noOverwriteDirNonDir"] = "1"
        errors = self._errors(f"put files into container {short_id(container_id)}")
        upload(self._client, "PUT", path, files, errors=errors, params=params)

    def read_file(self, container_id: str, path: str, max_bytes: int) -> bytes:
        """Read one regular file of a container; a symbolic link raises ValueError."""
        with self._errors(f"read {path} of container {short_id(container_id)}"):
            response = request(
                self._client,
                "GET",
                f"/containers/{quote(container_id)}/archive",
                params={"path": path},
                headers={"Accept-Encoding": "identity"},
                stream=True,
            )
            try:
                return read_sole_file(response.raw, path, max_bytes)
            finally:
                response.raw.close()  # otherwise the rest of a large file would be read

    def discard(self, container_id: str) -> None:
        """Remove a container from `prepare`, by its id or name, if it exists."""
        remove(self._client, self._url, container_id)

    def commit(self, container_id: str, tag: str, working_dir: str) -> str:
        """Commit a container as an image, and return the image's id."""
        repository, _, version = tag.rpartition(":")
        with self._errors(f"commit container {short_id(container_id)} as image {tag!r}"):
            config = self._client.inspect_container(container_id)["Config"]
            kept = {key: config[key] for key in config if key not in _OF_CONTAINERS}
            if kept.get("Entrypoint") == _PLACEHOLDER:
                kept["Entrypoint"] = []
            response = request(
                self._client,
                "POST",
                "/commit",
                params={"container": container_id, "repo": repository, "tag": version, "pause": 0},
                json={**kept, "WorkingDir": working_dir},
                timeout=(self._client.timeout, None),  # a large layer takes minutes
            )
            return str(response.json()["Id"])

    def build(
        self, spec: BuildSpec, context: Iterable[bytes], on_line: Callable[[str], None]
    ) -> str:
        """Build a Dockerfile with the classic builder, or with BuildKit if it needs that."""
        if spec.buildkit is not None:
            return buildkit.build(self._endpoint, spec, context, on_line, self._proxy_env)
        return build(self._client, self._url, spec, context, on_line, self._proxy_env)

    def tag(self, ref: str, tag: str) -> None:
        """Tag an image; another image with that tag loses it."""
        repository, _, version = tag.rpartition(":")
        with self._errors(f"tag image {ref!r} as {tag!r}"):
            self._client.tag(ref, repository, version)

    def untag(self, tag: str) -> None:
        """Remove a tag, and the image if that was its last one."""
        with suppress(EngineNotFoundError), self._errors(f"remove image {tag!r}"):
            self._client.remove_image(tag)

    def push(self, tag: str, on_progress: Callable[[str], None]) -> None:
        """Push an image to the registry in its name, and wait until it is complete."""
        push(self._client, self._url, tag, self._logins, on_progress)

    def is_published(self, tag: str) -> bool:
        """Return whether the registry in an image's name has it; False if it does not answer."""
        return is_published(self._client, self._url, tag, self._logins)

    def _errors(self, what: str) -> AbstractContextManager[None]:
        return engine_errors(what, self._url)
