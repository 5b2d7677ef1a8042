"""Every verb of `airflow_torchx.core.engine.protocol.Images` on a real daemon."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow_torchx.docker_engine import buildkit
from airflow_torchx.docker_engine.answers import image_detail, image_row, short_id
from airflow_torchx.docker_engine.build import build
from airflow_torchx.docker_engine.errors import asking
from airflow_torchx.docker_engine.push import is_published, push
from airflow_torchx.docker_engine.spec import label_filters
from airflow_torchx.docker_engine.upload import upload
from airflow_torchx.errors import EngineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.core.engine.images import BuildSpec, ImageDetail, ImageRow, RegistryLogin

#: Docker creates no container that would start nothing, and some images, like those of `docker
#: import`, name nothing to start.
_NOTHING: Final = ["airflow-torchx-never-starts-this"]
#: What an image has and Docker does not give to its containers.
_NOT_INHERITED: Final = ("OnBuild", "Shell", "StopTimeout")
#: What a container has and an image should not.
_OF_CONTAINERS: Final = ("Hostname", "Domainname", "Image")


class DockerImages:
    """The images of a Docker daemon, as `engine.Images` promises it.

    Args:
        client: a `docker.APIClient`.
        endpoint: the daemon; resolved.
        logins: go before those of the docker client.
    """

    def __init__(
        self,
        client: Any,  # noqa: ANN401 - the SDK has no types
        endpoint: Endpoint,
        logins: Sequence[RegistryLogin],
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._url = str(endpoint.url)
        self._logins = tuple(logins)

    def rows(self, labels: Mapping[str, str | None]) -> tuple[ImageRow, ...]:
        """Return the images that carry all these labels, in one call."""
        with self._asking("list images"):
            found = self._client.images(filters=label_filters(labels))
        return tuple(image_row(row) for row in found)

    def inspect(self, ref: str) -> ImageDetail | None:
        """Return what only an inspect tells of an image; None when it is not there."""
        try:
            with self._asking(f"inspect image {ref!r}"):
                return image_detail(self._client.inspect_image(ref))
        except EngineNotFoundError:
            return None

    def prepare(self, ref: str, name: str, labels: Mapping[str, str]) -> str:
        """Create a container that is never started, to put files onto an image; return its id."""
        with self._asking(f"create container {name!r}"):
            image = self._client.inspect_image(ref)
            config = image["Config"] or {}
            body = {key: config[key] for key in _NOT_INHERITED if config.get(key)}
            if not (config.get("Cmd") or config.get("Entrypoint")):
                body["Entrypoint"] = _NOTHING
            answer = self._client.create_container_from_config(
                {
                    **body,
                    "Image": image["Id"],
                    "Labels": dict(labels),
                    "HostConfig": {"NetworkMode": "none"},
                },
                name,
            )
        return str(answer["Id"])

    def put_files(self, container_id: str, files: Iterable[bytes]) -> None:
        """Unpack an uncompressed tar at the root of a container, as it comes."""
        what = f"put files into container {short_id(container_id)}"
        path, params = f"/containers/{quote(container_id)}/archive", {"path": "/"}
        asked = self._asking(what)
        response = upload(self._client, "PUT", path, files, asked=asked, params=params)
        with self._asking(what):
            response.raise_for_status()

    def commit(self, container_id: str, tag: str, working_dir: str) -> str:
        """Make an image of a container's files, and return its id."""
        repository, _, version = tag.rpartition(":")
        with self._asking(f"make image {tag!r} of container {short_id(container_id)}"):
            config = self._client.inspect_container(container_id)["Config"]
            kept = {key: config[key] for key in config if key not in _OF_CONTAINERS}
            if kept.get("Entrypoint") == _NOTHING:
                kept["Entrypoint"] = []
            response = self._client.post(
                f"{self._client.base_url}/v{self._client.api_version}/commit",
                # It does not run, so there is nothing to pause.
                params={"container": container_id, "repo": repository, "tag": version, "pause": 0},
                json={**kept, "WorkingDir": working_dir},
                timeout=(self._client.timeout, None),  # a large layer takes its time
            )
            response.raise_for_status()
            return str(response.json()["Id"])

    def build(
        self, spec: BuildSpec, context: Iterable[bytes], on_line: Callable[[str], None]
    ) -> str:
        """Build a Dockerfile with the builder of the Engine, or with BuildKit if it needs that."""
        if spec.buildkit is not None:
            return buildkit.build(self._endpoint, spec, context, on_line)
        return build(self._client, self._url, spec, context, on_line)

    def tag(self, ref: str, tag: str) -> None:
        """Give an image one more name; an image that has it loses it."""
        repository, _, version = tag.rpartition(":")
        with self._asking(f"tag image {ref!r} as {tag!r}"):
            self._client.tag(ref, repository, version)

    def untag(self, tag: str) -> None:
        """Take a name from an image, and remove the image if that was its last one."""
        with suppress(EngineNotFoundError), self._asking(f"remove image {tag!r}"):
            self._client.remove_image(tag)

    def push(self, tag: str, on_progress: Callable[[str], None]) -> None:
        """Push an image to the registry in its name, and wait until it is there."""
        push(self._client, self._url, tag, self._logins, on_progress)

    def is_published(self, tag: str) -> bool:
        """Tell whether the registry in an image's name has it; False if it cannot be asked."""
        return is_published(self._client, self._url, tag, self._logins)

    def _asking(self, what: str) -> AbstractContextManager[None]:
        return asking(what, self._url)
