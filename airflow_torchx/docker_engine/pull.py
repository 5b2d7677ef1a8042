"""One image pull: its events, how far it is, and what went wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.docker_engine.errors import asking
from airflow_torchx.errors import EngineError, EngineUnreachableError, ImagePullError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

_MB: Final = 1_000_000
_DONE: Final = ("Pull complete", "Already exists")
#: From here on the numbers of a layer are about something else than its download.
_DOWNLOADED: Final = ("Verifying Checksum", "Download complete", "Extracting", *_DONE)
_DENIED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


@dataclass(slots=True)
class _Layer:
    done: bool = False
    current_bytes: int = 0
    total_bytes: int = 0


class PullProgress:
    """Adds up the events of one pull."""

    def __init__(self) -> None:
        self._layers: dict[str, _Layer] = {}
        #: The first error in the stream: the Engine's words and its status, if it told one.
        self.error: tuple[str, int | None] | None = None

    def add(self, event: Mapping[str, Any]) -> None:
        """Take one event."""
        if "error" in event or "errorDetail" in event:
            detail = event.get("errorDetail") or {}
            words = detail.get("message") or event.get("error") or "no reason given"
            self.error = self.error or (str(words), detail.get("code"))
        elif event.get("id") and "progressDetail" in event:
            self._add_layer(event)

    @property
    def is_cut(self) -> bool:
        """Tell whether a layer is in the middle of its download."""
        return any(layer.current_bytes < layer.total_bytes for layer in self._layers.values())

    def __str__(self) -> str:
        layers = self._layers.values()
        done = sum(layer.done for layer in layers)
        current = sum(layer.current_bytes for layer in layers) // _MB
        total = sum(layer.total_bytes for layer in layers) // _MB
        return f"{done} of {len(layers)} layers, {current:,} of {total:,} MB"

    def _add_layer(self, event: Mapping[str, Any]) -> None:
        layer = self._layers.setdefault(event["id"], _Layer())
        status, progress = event.get("status"), event["progressDetail"] or {}
        layer.done = status in _DONE
        if status in _DOWNLOADED:
            layer.current_bytes = layer.total_bytes
        elif progress.get("total"):
            layer.total_bytes = progress["total"]
            layer.current_bytes = progress.get("current") or 0


def pull_events(
    client: Any,  # noqa: ANN401 - Docker's SDK has no types
    url: str,
    ref: str,
) -> Generator[Mapping[str, Any]]:
    """Start a pull and yield its events; closing the iterator ends the pull.

    Args:
        client: a `docker.APIClient`.
        url: the daemon.
        ref: the image.

    Raises:
        ImagePullError: the daemon did not begin.
        EngineUnreachableError: the connection broke before the daemon ended the pull.
    """
    what = f"pull image {ref!r}"
    try:
        with asking(what, url):
            response = _start(client, ref)
    except EngineUnreachableError:
        raise
    except EngineError as error:
        raise pull_error(ref, error.what, error.status) from error
    try:
        lines = response.iter_lines()
        while True:
            with asking(what, url):
                line = next(lines, None)
                event = json.loads(line) if line else {}
            if line is None:
                return
            yield event
    finally:
        response.close()


def _start(client: Any, ref: str) -> Any:  # noqa: ANN401 - see pull_events
    from docker import auth
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(ref)
    registry, _ = auth.resolve_repository_name(repository)
    login = auth.get_config_header(client, registry)
    response = client.post(
        f"{client.base_url}/v{client.api_version}/images/create",
        # Without a tag, the daemon would pull every tag there is.
        params={"fromImage": repository, "tag": tag or "latest"},
        headers={"X-Registry-Auth": login} if login else {},
        stream=True,
        timeout=(client.timeout, None),  # between two events any time may pass
    )
    response.raise_for_status()
    return response


def pull_error(ref: str, what: str, status: int | None) -> ImagePullError:
    """Return the error of a pull that failed.

    Args:
        ref: the image.
        what: the whole sentence.
        status: the registry's or the Engine's HTTP status, None if it told none.
    """
    login = f"`docker login {registry_of(ref)}".rstrip() + "`"
    reach = "check that the daemon's host reaches the registry"
    if status in _DENIED:
        fix = f"Check its name and tag; if it is private, log in with {login} where this runs."
    elif status is None:
        fix = f"Check its name and tag, log in with {login} if it is private, and {reach}."
    else:
        fix = f"Try again, and {reach}: `docker pull {ref}` there."
    return ImagePullError(what, fix=fix, status=status)


def cut_error(ref: str) -> ImagePullError:
    """Return the error of a pull that ended before the image was there."""
    return ImagePullError(
        f"cannot pull image {ref!r}: the daemon ended before the image was complete.",
        fix="Check whether the daemon was restarted (`docker version`), then try again.",
    )


def registry_of(ref: str) -> str:
    """Return the registry in an image name; empty for Docker Hub."""
    first, slash, _ = ref.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    return first if is_host else ""
