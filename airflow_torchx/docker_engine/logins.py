"""Registry logins: the given ones, or those of the docker CLI."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow_torchx.core.connection.docker_config import server_of
from airflow_torchx.core.engine.image_refs import HUB, host_of
from airflow_torchx.docker_engine import config_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_torchx.core.engine.images import RegistryLogin

#: What helpers print for a registry that they have no login for.
_UNKNOWN: Final = b"credentials not found in native keychain"
#: The user name with which a helper returns an identity token.
_TOKEN_USER: Final = "<token>"  # noqa: S105 - not a password
_HELPER_TIMEOUT_S: Final = 60.0


class Header(NamedTuple):
    """A login as a header, and why there may be none although one is configured.

    Args:
        value: the ``X-Registry-Auth`` header; None without a login.
        problem: what is wrong with the configured login and what to do about it; empty if nothing
            is. It matters only if the registry refuses the request.
    """

    value: str | None = None
    problem: str = ""


def login_command(host: str) -> str:
    """Return the `docker login` command for a registry, with backticks."""
    return "`docker login`" if host == HUB else f"`docker login {host}`"


def auth_config(login: RegistryLogin) -> dict[str, str]:
    """Return a login as the Engine API's ``AuthConfig``."""
    return {
        "username": login.username,
        "password": login.password,
        "serveraddress": server_of(host_of(login.registry)),
    }


def auth_header(host: str, logins: Iterable[RegistryLogin]) -> Header:
    """Return the login for a registry.

    The first of the logins for this registry, spelled in any way, wins. Without one, the
    configuration of the docker CLI and its credential helpers are read. As in the docker CLI, a
    broken one is no error: most images need no login.
    """
    for login in logins:
        if host_of(login.registry) == host:
            return Header(_encoded(auth_config(login)))
    config = config_file.read(os.environ)
    problem = config.problem and f"A login for {host} cannot be read: {config.problem}."
    found: dict[str, str] = {}
    if helper := config.helper_of(host):
        found, problem = _from_helper(f"docker-credential-{helper}", host)
    if not found:
        try:
            found = config.login(host)
        except ValueError:
            problem = (
                f"The login for {host} in the docker configuration is damaged: run "
                f"{login_command(host)} again."
            )
    return Header(_encoded(found)) if found else Header(None, problem)


def _from_helper(program: str, host: str) -> tuple[dict[str, str], str]:
    """Return a helper's login for a registry, or what is wrong with the helper.

    Its output is not quoted, because it may contain a secret.
    """
    path, server = shutil.which(program), server_of(host)
    if path is None:
        return {}, (
            f"The credential helper {program}, configured for {host}, is not on PATH: install it, "
            "or remove it from credsStore or credHelpers in ~/.docker/config.json."
        )
    try:
        ran = subprocess.run(  # noqa: S603 - the user's helper
            [path, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=_HELPER_TIMEOUT_S,
            check=False,
        )
        if ran.returncode == 0:
            return _login(json.loads(ran.stdout), server), ""
        if ran.stdout.strip() == _UNKNOWN:
            return {}, ""
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
        pass
    return {}, (
        f"The credential helper {program} returned no login for {host}: run it on this host, "
        f"`echo {server} | {program} get`."
    )


def _login(answer: Any, server: str) -> dict[str, str]:  # noqa: ANN401 - any JSON at all
    user, secret = str(answer["Username"]), str(answer["Secret"])
    if not (user or secret):  # some helpers answer this for an unknown registry
        return {}
    if user == _TOKEN_USER:
        return {"identitytoken": secret, "serveraddress": server}
    return {"username": user, "password": secret, "serveraddress": server}


def _encoded(found: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(found).encode()).decode()
