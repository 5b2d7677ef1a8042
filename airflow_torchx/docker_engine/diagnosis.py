"""How it stands with a daemon, in a few seconds, whatever the daemon does."""

from __future__ import annotations

import threading
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeVar

from airflow_torchx.concurrency import parallel
from airflow_torchx.core.connection.daemon_report import DaemonReport, LoginCheck
from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine.image_refs import host_of
from airflow_torchx.docker_engine.engine import DockerEngine
from airflow_torchx.docker_engine.registry_errors import Cause, advice, cause_of
from airflow_torchx.errors import EngineError, EngineUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.core.engine.images import RegistryLogin

_Found = TypeVar("_Found")

_DIAGNOSIS_S: Final = 5.0
_LOOK_S: Final = 9.0
#: Sooner than a thread is given up, so that the answer can say where it waited.
_REQUEST_S: Final = _DIAGNOSIS_S - 1


def why_unreachable(endpoint: Endpoint | None = None) -> str | None:
    """Return why a daemon does not answer and what to do about it; None when it answers.

    Never raises, leaves no connection open, and takes five seconds at most.

    Args:
        endpoint: how to reach it; None for the daemon that the docker command line would use.
    """
    hasty = _hasty(endpoint or Endpoint())
    found = _within(_DIAGNOSIS_S, hasty, lambda: DockerEngine.connect(hasty).close())
    return found if isinstance(found, str) else None


def look(endpoint: Endpoint, network: str, logins: Sequence[RegistryLogin]) -> DaemonReport | str:
    """Return what a daemon is and has, or why it cannot be asked and what to do about it.

    Never raises, changes nothing, leaves no connection open, and takes nine seconds at most.

    Args:
        endpoint: how to reach it.
        network: the network to look for.
        logins: to be tried, all at once.
    """
    hasty = _hasty(endpoint)

    def find() -> DaemonReport:
        with DockerEngine.connect(hasty) as engine:
            return DaemonReport(
                info=engine.info(),
                network=network,
                has_network=bool(engine.networks(network)),
                logins=tuple(
                    parallel.map_concurrently(lambda login: _checked(engine, login), logins)
                ),
            )

    return _within(_LOOK_S, hasty, find)


def _hasty(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, request_timeout_s=min(endpoint.request_timeout_s, _REQUEST_S))


def _within(limit_s: float, endpoint: Endpoint, find: Callable[[], _Found]) -> _Found | str:
    """Return what is found, or why nothing was in this time, on one line."""
    found: list[_Found | str] = []

    def run() -> None:
        try:
            found.append(find())
        except EngineError as error:
            found.append(" ".join(str(error).splitlines()))

    # Looking up a name, and ssh, know no timeout.
    thread = threading.Thread(target=run, name="docker-diagnosis", daemon=True)
    thread.start()
    thread.join(limit_s)
    if found:
        return found[0]
    where = endpoint.url or "the address that the environment gives"
    return f"the Docker daemon at {where} gave no answer in {limit_s:g} s. Check the address."


def _checked(engine: DockerEngine, login: RegistryLogin) -> LoginCheck:
    host = host_of(login.registry)
    return LoginCheck(
        registry=host, username=login.username, error=_why_refused(engine, login, host)
    )


def _why_refused(engine: DockerEngine, login: RegistryLogin, host: str) -> str | None:
    try:
        engine.check_login(login)
    except EngineUnreachableError:
        return f"no answer in {_REQUEST_S:g} s. {advice(Cause.UNREACHABLE, host)}"
    except EngineError as error:
        words = error.what.removeprefix(f"cannot log in to {login.registry}: ")
        is_refused = error.status == HTTPStatus.UNAUTHORIZED
        fix = None if is_refused else advice(cause_of(words), host)
        return f"{words} {fix or 'Check login and password of its connection.'}"
    return None
