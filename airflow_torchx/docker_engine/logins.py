"""Who we are to a registry: a login that was given, or what the docker command line would use."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.image_refs import HUB, host_of
from airflow_torchx.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_torchx.core.engine.images import RegistryLogin

#: What Docker Hub calls itself to those who log in; also its key in the docker configuration.
_HUB_URL: Final = "https://index.docker.io/v1/"
#: What a configuration or an answer of another form than Docker's makes the SDK raise, for want of
#: checks of its own. All of them may hold a secret in their text.
_MISSHAPEN: Final = (ValueError, LookupError, TypeError, AttributeError)


def login_command(host: str) -> str:
    """Return the command that logs in to a registry, as it is written in an advice."""
    return "`docker login`" if host == HUB else f"`docker login {host}`"


def entry(login: RegistryLogin) -> dict[str, str]:
    """Return a login as the Engine API takes it."""
    host = host_of(login.registry)
    return {
        "username": login.username,
        "password": login.password,
        "serveraddress": _HUB_URL if host == HUB else host,
    }


def header(host: str, logins: Iterable[RegistryLogin]) -> str | None:
    """Return the ``X-Registry-Auth`` of a request about a registry; None without any login.

    The first of the logins that is for this registry wins; without one, the configuration of the
    docker command line is read anew, with its credential helpers.

    Args:
        host: the registry, as `registry_of` returns it.
        logins: in any spelling of their registries.

    Raises:
        EngineError: the docker configuration cannot be read, or its credential helper does not
            work. What a helper prints is not told: it may be a secret.
    """
    from docker import auth

    for login in logins:
        if host_of(login.registry) == host:
            return _encoded(entry(login))
    config = _configuration()
    helper = config.get_credential_store(host)
    if helper:
        _check_installed(helper, host)
    try:
        found = auth.resolve_authconfig(config, host)
        return _encoded(found) if found else None
    except (_docker_exception(), *_MISSHAPEN):
        pass
    # Not in the handler: the error would carry the helper's output as its context.
    raise EngineError(
        f"the credential helper docker-credential-{helper} gives no login for {host}.",
        fix=f"Try it where this runs: `echo {host} | docker-credential-{helper} get`; or name an "
        f"Airflow connection of type `docker` with host {host} in docker_conn_ids.",
    )


def _docker_exception() -> type[Exception]:
    from docker.errors import DockerException

    found: type[Exception] = DockerException
    return found


def _configuration() -> Any:  # noqa: ANN401 - Docker's SDK has no types
    from docker import auth

    try:
        return auth.load_config()
    except (_docker_exception(), *_MISSHAPEN):
        pass
    raise EngineError(
        "the logins in the configuration of the docker command line cannot be read.",
        fix="Mend `auths` in ~/.docker/config.json (or in the folder that DOCKER_CONFIG names), or "
        "remove it and run `docker login` again.",
    )


def _check_installed(helper: str, host: str) -> None:
    if shutil.which(f"docker-credential-{helper}") is None:
        raise EngineError(
            f"the credential helper docker-credential-{helper}, which the docker configuration "
            f"names for {host}, is not on the PATH.",
            fix="Install it, or take it out of credsStore or credHelpers in ~/.docker/config.json; "
            f"or name an Airflow connection of type `docker` with host {host} in docker_conn_ids.",
        )


def _encoded(found: dict[str, str]) -> str:
    from docker import auth

    return str(auth.encode_header(found), "ascii")
