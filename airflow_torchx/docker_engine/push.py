"""One image push, tried again where the connection broke; and whether a registry has an image."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow_torchx.core.engine.image_refs import registry_of
from airflow_torchx.docker_engine.errors import asking
from airflow_torchx.docker_engine.logins import header
from airflow_torchx.docker_engine.registry_errors import (
    Cause,
    advice,
    cause_of,
    login_advice,
)
from airflow_torchx.docker_engine.transfer import LayerProgress, follow, post, read_events
from airflow_torchx.errors import EngineError, EngineUnreachableError, ImagePushError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.core.engine.images import RegistryLogin

_log = logging.getLogger(__name__)

_PAUSES_S: Final = (1.0, 2.0, 4.0)
#: Base64 of ``{}``: without this header the daemon refuses to push at all.
_NO_LOGIN: Final = "e30="


@dataclass(frozen=True, slots=True)
class _Failure:
    """One attempt that failed.

    Args:
        error: what to raise if it was the last.
        cause: why.
        may_pass: whether another attempt is worth it.
    """

    error: EngineError
    cause: Cause
    may_pass: bool


def push(
    client: Any,  # noqa: ANN401 - Docker's SDK has no types
    url: str,
    tag: str,
    logins: Sequence[RegistryLogin],
    on_progress: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Push an image to the registry in its name, and wait until it is there.

    A connection that breaks, to the registry or to the daemon, is tried again three times. The
    daemon tries layers again by itself, for 50 s: what it has given up stays given up.

    Args:
        client: a `docker.APIClient`.
        url: the daemon.
        tag: name of a local image, ``registry/repo:tag``.
        logins: who we are to registries; they win over the docker command line's configuration.
        on_progress: called with a short line now and then, at most once a second.
        sleep: waits, in seconds.

    Raises:
        ImagePushError: for every error in the push stream as well.
        EngineUnreachableError: the daemon does not answer.
    """
    try:
        login = header(registry_of(tag), logins)
    except EngineError as error:
        raise ImagePushError(f"cannot push image {tag!r}: {error.what}", fix=error.fix) from error
    was_cut = False
    for pause_s in (*_PAUSES_S, None):
        failure = _attempt(client, url, tag, login, on_progress)
        if failure is None:
            return
        # What cannot be reached at all is told at once; after a cut it may be about to come back.
        was_cut = was_cut or failure.cause is Cause.CUT
        if pause_s is None or not (was_cut and failure.may_pass):
            raise failure.error
        on_progress(f"the connection broke, trying again in {pause_s:g} s: {failure.error.what}")
        sleep(pause_s)


def is_published(
    client: Any,  # noqa: ANN401 - see push
    url: str,
    tag: str,
    logins: Sequence[RegistryLogin],
) -> bool:
    """Tell whether the registry in an image's name has it; False as well if it cannot be asked.

    Args:
        client: a `docker.APIClient`; its daemon asks the registry.
        url: the daemon.
        tag: name of an image, local or not.
        logins: as for `push`.
    """
    try:
        login = header(registry_of(tag), logins)
        with asking(f"look for image {tag!r} in its registry", url):
            response = client.get(
                f"{client.base_url}/v{client.api_version}/distribution/{quote(tag, '/:@')}/json",
                headers={"X-Registry-Auth": login} if login else {},
                timeout=client.timeout,
            )
            response.raise_for_status()
    except EngineError as error:
        _log.debug("taking image %s for not published: %s", tag, error.what)
        return False
    return True


def _attempt(
    client: Any,  # noqa: ANN401 - see push
    url: str,
    tag: str,
    login: str | None,
    on_progress: Callable[[str], None],
) -> _Failure | None:
    from docker.utils import parse_repository_tag

    progress, what = LayerProgress(), f"push image {tag!r}"
    repository, version = parse_repository_tag(tag)
    try:
        with asking(what, url):
            path = f"/images/{quote(repository, '/:')}/push"
            response = post(client, path, {"tag": version or "latest"}, login or _NO_LOGIN)
        follow(read_events(response, what, url), progress, on_progress)
    except EngineUnreachableError as error:
        cause = Cause.CUT if progress.has_begun else Cause.UNREACHABLE
        return _Failure(error, cause, may_pass=True)
    except EngineError as error:
        words, status = error.what.removeprefix(f"cannot {what}: "), error.status
    else:
        if progress.error is None:
            return None
        words, status = progress.error
    cause = cause_of(words)
    return _Failure(
        push_error(tag, words, status, has_login=login is not None),
        cause,
        may_pass=cause.may_pass and not progress.was_retried,
    )


def push_error(tag: str, words: str, status: int | None, *, has_login: bool) -> ImagePushError:
    """Return the error of a push that failed.

    Args:
        tag: the image.
        words: the Engine's.
        status: the registry's or the Engine's HTTP status, None if it told none.
        has_login: whether the push had a login.
    """
    host, cause = registry_of(tag), cause_of(words)
    if cause is Cause.ABSENT:
        fix = f"Build it first, or give it that name: `docker tag IMAGE {tag}`."
    elif cause is Cause.REFUSED and not has_login:
        fix = f"There is no login for {host}: {login_advice(host)}."
    elif cause is Cause.REFUSED:
        fix = f"Check user, password and what they may do; {login_advice(host)}."
    else:
        fix = advice(cause, host) or (
            f"See the logs of the registry at {host} and of the daemon: `docker push {tag}` there."
        )
    what = f"cannot push image {tag!r} to {host}: {words.rstrip('.')}."
    return ImagePushError(what, fix=fix, status=status)
