"""Which image a name is, so that each node runs the same one.

A node that gets a name asks the registry each time (20 s of time-outs without a network), and two
nodes may get two answers. With a digest, or an id, that it has, it pulls nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from airflow_torchx.core.engine.image_refs import registry_of, without_tag
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.docker_engine.logins import auth_header
from airflow_torchx.docker_engine.pull import pull_error
from airflow_torchx.docker_engine.request import request
from airflow_torchx.errors import (
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
    ImagePullError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.core.engine.images import RegistryLogin
    from airflow_torchx.docker_engine.engine import DockerEngine


#: Why a task of a swarm is rejected whose image the node does not get.
_NO_IMAGE: Final = re.compile(r"No such image: (\S+)")
_ID: Final = "sha256:"
_ON_THE_MANAGER: Final = (
    "the manager has it without a registry: push it to a registry that all nodes reach, and use "
    "its name there, or load it on each node with `docker load`"
)


def pinned(engine: DockerEngine, ref: str, logins: Sequence[RegistryLogin]) -> str:
    """Return an image by its digest, or by its id if no registry has it.

    One that is on the daemon is taken as it is there.

    Raises:
        EngineNotFoundError: neither the daemon nor a registry has it.
    """
    if "@" in ref or ref.startswith(_ID):
        return ref
    try:
        with engine_errors(f"find image {ref!r}", str(engine.endpoint.url)):
            found = engine.client.inspect_image(ref)
    except EngineNotFoundError:
        try:
            return published(engine, ref, logins)
        except ImagePullError as error:
            raise EngineNotFoundError(error.what, fix=error.fix, status=404) from error
    start = f"{without_tag(ref)}@"
    digests = [one for one in found.get("RepoDigests") or () if one.startswith(start)]
    return f"{ref}@{digests[0].removeprefix(start)}" if digests else str(found["Id"])


def published(engine: DockerEngine, ref: str, logins: Sequence[RegistryLogin]) -> str:
    """Return an image of a registry by its digest, like ``team/train:1@sha256:…``.

    Raises:
        ImagePullError: the registry does not have it, or does not answer.
    """
    login = auth_header(registry_of(ref), logins)
    headers = {"X-Registry-Auth": login.value} if login.value else {}
    what = f"find image {ref!r} in its registry"
    try:
        with engine_errors(what, str(engine.endpoint.url)):
            path = f"/distribution/{quote(ref, '/:@')}/json"
            answer = request(engine.client, "GET", path, headers=headers).json()
    except EngineUnreachableError:
        raise
    except EngineError as error:
        raise pull_error(ref, error.what, error.status, login.problem) from error
    digest = str(answer["Descriptor"]["digest"])
    return ref if "@" in ref else f"{ref}@{digest}"


def login_headers(ref: str, logins: Sequence[RegistryLogin]) -> dict[str, str]:
    """Return the headers of a request with the login that the nodes pull an image with."""
    login = auth_header(registry_of(ref), logins).value
    return {"X-Registry-Auth": login} if login else {}


class Pins:
    """What the names of images are, the same one for all replicas of a launch. Thread-safe.

    Args:
        resolve: returns an image by its digest or its id, as `pinned` does.
    """

    def __init__(self, resolve: Callable[[str], str]) -> None:
        self._resolve = resolve
        #: The image, and the launch that uses it; empty before one does.
        self._found: dict[str, tuple[str, str]] = {}

    def find(self, ref: str) -> str:
        """Return what a name is now; the next launch uses that.

        Raises:
            EngineNotFoundError: neither the manager nor a registry has it.
        """
        self.put(ref, self._resolve(ref))
        return self._found[ref][0]

    def put(self, ref: str, image: str) -> None:
        """Let the next launch use an image for a name."""
        self._found[ref] = image, ""

    def of(self, ref: str, launch_id: str) -> str:
        """Return what a name is for a launch.

        Raises:
            EngineNotFoundError: neither the manager nor a registry has it.
        """
        image, launch = self._found.get(ref, ("", ""))
        if not image or launch not in ("", launch_id):
            image = self._resolve(ref)
        self._found[ref] = image, launch_id
        return image


class FailedPulls:
    """Finds out why a node has no image: Engines before 29.7 say the same of each cause.

    Args:
        publish: asks the registry for an image, as `published` does.
    """

    def __init__(self, publish: Callable[[str], str]) -> None:
        self._publish = publish
        self._known: dict[str, str] = {}

    def explained(self, error: str) -> str:
        """Return the error of a replica, with what its registry answers a manager now."""
        match = _NO_IMAGE.match(error)
        if match is None:
            return error
        if match[1] not in self._known:
            self._known[match[1]] = self._reason(match[1])
        return f"{error}; {self._known[match[1]]}"

    def _reason(self, image: str) -> str:
        if image.startswith(_ID):
            return _ON_THE_MANAGER
        try:
            self._publish(image)
        except EngineError as why:
            return why.what
        return (
            "the registry has it, so see the log of the daemon of the node: it may not reach the "
            "registry, or not have its certificate"
        )
