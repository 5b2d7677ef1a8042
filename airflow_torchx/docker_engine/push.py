"""Pushing an image, with retries after a lost connection, and asking a registry for an image."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from airflow_torchx.core.engine.image_refs import registry_of
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.docker_engine.logins import auth_header
from airflow_torchx.docker_engine.registry_errors import (
    Cause,
    advice,
    cause_of,
    login_advice,
)
from airflow_torchx.docker_engine.request import request
from airflow_torchx.docker_engine.transfer import LayerProgress, follow, post, read_events
from airflow_torchx.errors import EngineError, EngineUnreachableError, ImagePushError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.core.engine.images import RegistryLogin
    from airflow_torchx.docker_engine.logins import Header
    from airflow_torchx.docker_engine.request import Client

_log = logging.getLogger(__name__)

_PAUSES_S: Final = (1.0, 2.0, 4.0)
#: Base64 of ``{}``: without this header the daemon refuses to push at all.
_NO_LOGIN: Final = "e30="


@dataclass(frozen=True, slots=True)
class _Failure:
    """A failed attempt, with the error to raise unless there is a further one."""

    error: EngineError
    cause: Cause
    is_transient: bool


def push(
    client: Client,
    url: str,
    tag: str,
    logins: Sequence[RegistryLogin],
    on_progress: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Push an image to the registry in its name, and wait until it is complete.

    A push that loses its connection, to the registry or to the daemon, is retried three times. A
    layer that the daemon itself has retried in vain (for 50 s) is not retried again.

    Raises:
        ImagePushError: the push failed, or its stream contains an error.
        EngineUnreachableError: the daemon does not answer.
    """
    login = auth_header(registry_of(tag), logins)
    was_connected = False
    for pause_s in (*_PAUSES_S, None):
        failure = _attempt(client, url, tag, login, on_progress)
        if failure is None:
            return
        # A registry that never answered is not retried; one that did may be restarting.
        was_connected = was_connected or failure.cause is Cause.CONNECTION_LOST
        if pause_s is None or not (was_connected and failure.is_transient):
            raise failure.error
        on_progress(f"connection lost, retrying in {pause_s:g} s: {failure.error.what}")
        sleep(pause_s)


def is_published(client: Client, url: str, tag: str, logins: Sequence[RegistryLogin]) -> bool:
    """Return whether the registry in an image's name has it; False if it does not answer.

    The daemon asks the registry; the image need not be local.
    """
    try:
        login = auth_header(registry_of(tag), logins).value
        headers = {"X-Registry-Auth": login} if login else {}
        path = f"/distribution/{quote(tag, '/:@')}/json"
        with engine_errors(f"look for image {tag!r} in its registry", url):
            request(client, "GET", path, headers=headers)
    except EngineError as error:
        _log.debug("assuming that image %s is not published: %s", tag, error.what)
        return False
    return True


def _attempt(
    client: Client, url: str, tag: str, login: Header, on_progress: Callable[[str], None]
) -> _Failure | None:
    from docker.utils import parse_repository_tag

    progress, what = LayerProgress(), f"push image {tag!r}"
    repository, version = parse_repository_tag(tag)
    try:
        with engine_errors(what, url):
            path = f"/images/{quote(repository, '/:')}/push"
            response = post(client, path, {"tag": version or "latest"}, login.value or _NO_LOGIN)
        follow(read_events(response, what, url), progress, on_progress)
    except EngineUnreachableError as error:
        cause = Cause.CONNECTION_LOST if progress.has_begun else Cause.UNREACHABLE
        return _Failure(error, cause, is_transient=True)
    except EngineError as error:
        message, status = error.what.removeprefix(f"cannot {what}: "), error.status
    else:
        if progress.error is None:
            return None
        message, status = progress.error
    cause = cause_of(message)
    return _Failure(
        push_error(tag, message, status, login),
        cause,
        is_transient=cause.is_transient and not progress.was_retried,
    )


def push_error(tag: str, message: str, status: int | None, login: Header) -> ImagePushError:
    """Return the error of a push that failed with a message of the registry or the Engine."""
    host, cause = registry_of(tag), cause_of(message)
    if cause is Cause.NOT_FOUND:
        fix = f"Build it first, or tag an image with that name: `docker tag IMAGE {tag}`."
    elif cause is Cause.DENIED and login.value is None:
        fix = f"No login is configured for {host}: {login_advice(host)}. {login.problem}".rstrip()
    elif cause is Cause.DENIED:
        fix = (
            f"Check user, password and permissions; {login_advice(host)}. {login.problem}".rstrip()
        )
    else:
        fix = advice(cause, host) or (
            f"See the logs of the registry at {host} and of the daemon; try `docker push {tag}`."
        )
    what = f"cannot push image {tag!r} to {host}: {message.rstrip('.')}."
    return ImagePushError(what, fix=fix, status=status)
