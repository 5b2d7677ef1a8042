"""Pulling an image, with its progress and its errors."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.image_refs import HUB, registry_of
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.docker_engine.logins import auth_header
from airflow_torchx.docker_engine.registry_errors import (
    Cause,
    advice,
    cause_of,
    login_advice,
)
from airflow_torchx.docker_engine.transfer import LayerProgress, follow, post, read_events
from airflow_torchx.errors import (
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
    ImagePullError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from airflow_torchx.core.engine.images import RegistryLogin
    from airflow_torchx.docker_engine.logins import Header
    from airflow_torchx.docker_engine.request import Client

#: What to do about an image without the name of a registry, which the daemon looks for on the Hub.
_OWN_IMAGE: Final = (
    "It names no registry, so the daemon asked Docker Hub. If it is an image of your own, build it "
    "on this daemon (`docker build -t {ref} .`), with pull_policy missing. If it is in another "
    "registry, put that in front, like registry.example.com/{ref}."
)
_DENIED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


def pull(
    client: Client,
    url: str,
    ref: str,
    logins: Sequence[RegistryLogin],
    on_progress: Callable[[str], None],
) -> None:
    """Pull an image and wait until it is complete; the default tag is ``latest``.

    The daemon itself retries a layer whose connection breaks.

    Raises:
        ImagePullError: the pull failed, or its stream contains an error or ends early.
        EngineUnreachableError: the connection was lost before the pull ended.
    """
    progress, login = LayerProgress(), auth_header(registry_of(ref), logins)
    follow(_events(client, url, ref, login), progress, on_progress)
    if progress.error:
        why, status = progress.error
        what = f"cannot pull image {ref!r}: {why.rstrip('.')}."
        raise pull_error(ref, what, status, login.problem)
    if progress.is_incomplete or not _is_present(client, url, ref):
        raise ImagePullError(
            f"cannot pull image {ref!r}: the response ended before the image was complete.",
            fix="Check whether the daemon was restarted (`docker version`), then try again.",
        )


def _events(client: Client, url: str, ref: str, login: Header) -> Generator[Mapping[str, Any]]:
    """Start a pull and yield its events; closing the iterator cancels the pull."""
    what = f"pull image {ref!r}"
    try:
        with engine_errors(what, url):
            response = post(client, "/images/create", _params(ref), login.value)
    except EngineUnreachableError:
        raise
    except EngineError as error:
        raise pull_error(ref, error.what, error.status, login.problem) from error
    yield from read_events(response, what, url)


def _params(ref: str) -> dict[str, str]:
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(ref)
    # Without a tag, the daemon would pull all tags.
    return {"fromImage": repository, "tag": tag or "latest"}


def _is_present(client: Client, url: str, ref: str) -> bool:
    try:
        with engine_errors(f"find image {ref!r}", url):
            client.inspect_image(ref)
    except EngineNotFoundError:
        return False
    return True


def pull_error(ref: str, what: str, status: int | None, login_problem: str = "") -> ImagePullError:
    """Return the error of a pull that failed; the status is that of the registry or the Engine."""
    host, cause = registry_of(ref), cause_of(what)
    check = f"Check its name and tag; if it is private, {login_advice(host)}"
    reach = "check that the daemon's host reaches the registry"
    if status in _DENIED or cause is Cause.DENIED:
        fix = f"{check}. {login_problem}".rstrip()
    elif found := advice(cause, host):
        fix = found
    elif status is None:
        fix = f"{check}; and {reach}. {login_problem}".rstrip()
    else:
        fix = f"Try again, and {reach}: run `docker pull {ref}` there."
    is_missing = status in (*_DENIED, None) or cause in (Cause.DENIED, Cause.UNREACHABLE)
    if host == HUB and HUB not in ref and is_missing:
        fix = f"{fix} {_OWN_IMAGE.format(ref=ref)}"
    return ImagePullError(what, fix=fix, status=status)
