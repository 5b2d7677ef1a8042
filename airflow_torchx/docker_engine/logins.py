"""Registry logins: the given ones, or those of the docker CLI."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow_torchx.core.connection.docker_config import DockerConfig, server_of
from airflow_torchx.core.engine.image_refs import HUB, host_of
from airflow_torchx.docker_engine import config_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_torchx.core.engine.images import RegistryLogin

#: What helpers print for a registry that they have no login for.
_UNKNOWN: Final = b"credentials not found in native keychain"
#: The user name with which a helper returns an identity token.
_TOKEN_USER: Final = "<token>"  # noqa: S105 - not a password
_HELPER_TIMEOUT_S: Final = 60.0
#: A docker configuration, of which the docker CLI (28.3) reads the logins before those of the file.
_VARIABLE: Final = "DOCKER_AUTH_CONFIG"


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

    The first of the logins for this registry, spelled in any way, wins. Without one, the places are
    read where the docker CLI finds a login: its variable, credential helpers, and its
    configuration. Like the docker CLI, this ignores a broken one: most images need no login.
    """
    for login in logins:
        if host_of(login.registry) == host:
            return _header(host, auth_config(login))
    problems = []
    for found, problem in _cli_logins(host):
        if found:
            return _header(host, found)
        problems.append(problem)
    return Header(None, " ".join(filter(None, problems)))


def _cli_logins(host: str) -> Iterator[tuple[dict[str, str], str]]:
    """Yield the login of each place where the docker CLI looks, or what is wrong with it."""
    given = DockerConfig.parse(os.environ.get(_VARIABLE, ""))
    if given.problem:
        yield {}, f"The variable {_VARIABLE} is ignored: {given.problem}."
    yield _stored(given, host, f"{_VARIABLE} is damaged: correct it")
    config = config_file.read(os.environ)
    if config.problem:
        yield {}, f"A login for {host} cannot be read: {config.problem}."
    helper = config.helper_of(host)
    if not (helper or config.auths or config.helpers):
        helper = _default_helper()
    if helper:
        yield _from_helper(f"docker-credential-{helper}", host)
    damaged = f"the docker configuration is damaged: run {login_command(host)} again"
    yield _stored(config, host, damaged)


def _stored(config: DockerConfig, host: str, damaged: str) -> tuple[dict[str, str], str]:
    try:
        return config.login(host), ""
    except ValueError:
        return {}, f"The login for {host} in {damaged}."


def _default_helper() -> str:
    """Return the helper that the docker CLI uses without any setting, if it is installed."""
    if sys.platform == "darwin":
        name = "osxkeychain"
    else:
        name = "pass" if shutil.which("pass") else "secretservice"
    return name if shutil.which(f"docker-credential-{name}") else ""


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


def _header(host: str, found: dict[str, str]) -> Header:
    """Return a login as a header; a daemon replaces what UTF-8 cannot encode, as readers do."""
    is_damaged = _NOT_UTF8.search("".join(found.values()))
    problem = f"The login for {host} is not in UTF-8: enter it again." if is_damaged else ""
    return Header(base64.urlsafe_b64encode(json.dumps(found).encode()).decode(), problem)


_NOT_UTF8: Final = re.compile("[\ufffd\ud800-\udfff]")
