"""Registry logins: the given ones, or those of the docker CLI."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.image_refs import HUB, host_of
from airflow_torchx.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_torchx.core.engine.images import RegistryLogin

#: Docker Hub's server address in a login, and its key in the docker configuration.
_HUB_URL: Final = "https://index.docker.io/v1/"
#: The SDK raises these for a malformed configuration. Their text may contain a secret.
_MALFORMED: Final = (ValueError, LookupError, TypeError, AttributeError)


def login_command(host: str) -> str:
    """Return the `docker login` command for a registry, with backticks."""
    return "`docker login`" if host == HUB else f"`docker login {host}`"


def auth_config(login: RegistryLogin) -> dict[str, str]:
    """Return a login as the Engine API's ``AuthConfig``."""
    host = host_of(login.registry)
    return {
        "username": login.username,
        "password": login.password,
        "serveraddress": _HUB_URL if host == HUB else host,
    }


def auth_header(host: str, logins: Iterable[RegistryLogin]) -> str | None:
    """Return the ``X-Registry-Auth`` header for a registry; None if there is no login for it.

    The first of the logins for this registry, spelled in any way, wins. Without one, the
    configuration of the docker CLI and its credential helpers are read.

    Raises:
        EngineError: the docker configuration is unreadable, or its credential helper fails. The
            error does not quote the helper's output, which may contain a secret.
    """
    from docker import auth
    from docker.errors import DockerException

    for login in logins:
        if host_of(login.registry) == host:
            return _encoded(auth_config(login))
    config = _configuration()
    helper = config.get_credential_store(host)
    if helper:
        _check_installed(helper, host)
    try:
        found = auth.resolve_authconfig(config, host)
        return _encoded(found) if found else None
    except (DockerException, *_MALFORMED):
        pass
    # Outside the handler, because the error's context would contain the helper's output.
    raise EngineError(
        f"the credential helper docker-credential-{helper} returned no login for {host}.",
        fix=f"Run it on this host: `echo {host} | docker-credential-{helper} get`; or add an "
        f"Airflow connection of type `docker` with host {host} to docker_conn_ids.",
    )


def _configuration() -> Any:  # noqa: ANN401 - Docker's SDK has no types
    from docker import auth
    from docker.errors import DockerException

    try:
        return auth.load_config()
    except (DockerException, *_MALFORMED):
        pass
    raise EngineError(
        "the logins in the docker configuration cannot be read.",
        fix="Correct `auths` in ~/.docker/config.json (or in $DOCKER_CONFIG), or remove it and run "
        "`docker login` again.",
    )


def _check_installed(helper: str, host: str) -> None:
    if shutil.which(f"docker-credential-{helper}") is None:
        raise EngineError(
            f"the credential helper docker-credential-{helper}, configured for {host}, is not on "
            "PATH.",
            fix="Install it, or remove it from credsStore or credHelpers in ~/.docker/config.json; "
            f"or add an Airflow connection of type `docker` with host {host} to docker_conn_ids.",
        )


def _encoded(found: dict[str, str]) -> str:
    from docker import auth

    return str(auth.encode_header(found), "ascii")
