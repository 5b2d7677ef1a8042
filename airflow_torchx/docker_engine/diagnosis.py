"""Checks of a daemon that return within seconds, even if the daemon hangs."""

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

_CONNECT_LIMIT_S: Final = 5.0
_REPORT_LIMIT_S: Final = 9.0
#: Shorter than the limits, so that a request reports its own timeout.
_REQUEST_S: Final = _CONNECT_LIMIT_S - 1


def unreachable_reason(endpoint: Endpoint | None = None) -> str | None:
    """Return why a daemon does not answer and what to do about it; None if it answers.

    Never raises, leaves no connection open, and takes at most 5 seconds.

    Args:
        endpoint: the daemon; None for the one that the docker CLI would use.
    """
    return within(
        _CONNECT_LIMIT_S,
        endpoint or Endpoint(),
        lambda impatient: DockerEngine.connect(impatient).close(),
    )


def diagnose(
    endpoint: Endpoint, network: str, logins: Sequence[RegistryLogin]
) -> DaemonReport | str:
    """Return what is known of a daemon, or why it does not answer and what to do about it.

    Never raises, changes nothing, leaves no connection open, and takes at most 9 seconds. The
    registry logins are tried concurrently.
    """

    def collect(impatient: Endpoint) -> DaemonReport:
        with DockerEngine.connect(impatient) as engine:
            return DaemonReport(
                info=engine.info(),
                network=network,
                has_network=bool(engine.networks(network)),
                logins=check_logins(engine, logins),
            )

    return within(_REPORT_LIMIT_S, endpoint, collect)


def within(
    limit_s: float, endpoint: Endpoint, collect: Callable[[Endpoint], _Found]
) -> _Found | str:
    """Return what `collect` returns, or on one line why it failed or that time ran out.

    The endpoint that `collect` gets has a request timeout shorter than the limits.
    """
    timeout_s = min(endpoint.request_timeout_s, _REQUEST_S)
    impatient = replace(endpoint, request_timeout_s=timeout_s)
    found: list[_Found | str] = []

    def run() -> None:
        try:
            found.append(collect(impatient))
        except EngineError as error:
            found.append(" ".join(str(error).splitlines()))

    # Name resolution has no timeout of its own.
    thread = threading.Thread(target=run, name="docker-diagnosis", daemon=True)
    thread.start()
    thread.join(limit_s)
    if found:
        return found[0]
    where = endpoint.url or "the address from the environment"
    return f"the Docker daemon at {where} did not answer in {limit_s:g} s. Check the address."


def check_logins(engine: DockerEngine, logins: Sequence[RegistryLogin]) -> tuple[LoginCheck, ...]:
    """Try registry logins through a daemon, concurrently."""
    return tuple(parallel.map_concurrently(lambda login: _check_login(engine, login), logins))


def _check_login(engine: DockerEngine, login: RegistryLogin) -> LoginCheck:
    host, refusal = host_of(login.registry), None
    try:
        engine.check_login(login)
    except EngineUnreachableError:
        refusal = f"no answer in {_REQUEST_S:g} s. {advice(Cause.UNREACHABLE, host)}"
    except EngineError as error:
        message = error.what.removeprefix(f"cannot log in to {login.registry}: ")
        is_denied = error.status == HTTPStatus.UNAUTHORIZED
        fix = None if is_denied else advice(cause_of(message), host)
        refusal = f"{message} {fix or 'Check login and password of its connection.'}"
    return LoginCheck(registry=host, username=login.username, error=refusal)
