"""Connecting to a daemon; it is found in the same order as by the docker CLI."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.connection.docker_config import parse_context
from airflow_torchx.core.connection.endpoint import (
    DEFAULT_URL,
    TLS_FIELDS,
    Endpoint,
    complete_url,
    url_problem,
)
from airflow_torchx.docker_engine import config_file
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.errors import EngineError, EngineUnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.core.connection.docker_config import DockerConfig
    from airflow_torchx.docker_engine.request import Client

#: Engine 20.10.
MIN_API_VERSION: Final = "1.41"
_CHECK_ADDRESS: Final = "Check host and port, or set the host of the connection or DOCKER_HOST."


def resolve(endpoint: Endpoint, environ: Mapping[str, str]) -> Endpoint:
    """Return the endpoint with a URL, from the environment or a docker context if it has none.

    The order is DOCKER_HOST (with DOCKER_TLS_VERIFY and DOCKER_CERT_PATH), the context in
    DOCKER_CONTEXT, the current context of the docker configuration, the default socket.

    Raises:
        EngineUnreachableError: the URL is invalid, or the context does not exist.
    """
    if endpoint.url is None:
        api_version = endpoint.api_version or environ.get("DOCKER_API_VERSION") or None
        found = _from_environment(environ) or _from_context(environ) or {"url": DEFAULT_URL}
        endpoint = replace(endpoint, api_version=api_version, **found)
    if problem := url_problem(str(endpoint.url)):
        raise EngineUnreachableError(
            f"no Docker daemon: {problem[0]}.",
            fix=f"In the host of the connection, DOCKER_HOST or the context: {problem[1]}.",
        )
    return replace(endpoint, url=complete_url(endpoint))


def open_client(endpoint: Endpoint, config: DockerConfig | None = None) -> Client:
    """Return a connected client with a negotiated API version.

    The endpoint is resolved, and its TLS material is in files. Requests have the headers of
    ``config``, if given.

    Raises:
        EngineUnreachableError: the daemon does not answer, or a header is invalid.
        EngineError: the daemon is older than Engine 20.10.
    """
    try:
        with engine_errors("connect", str(endpoint.url)):
            _check(endpoint)
            headers = config.sent_headers if config else {}
            # If an SDK client fails in its own version negotiation, its connection stays open.
            with closing(_client(endpoint, MIN_API_VERSION, headers)) as probe:
                response = probe.version(api_version=False)
    except EngineError as error:
        if error.status is None:
            raise
        raise EngineUnreachableError(
            f"no Docker daemon at {endpoint.url}: status {error.status}, {error.what}",
            fix=_CHECK_ADDRESS,
        ) from error
    api_version = _checked_version(response, endpoint)
    return _client(endpoint, endpoint.api_version or api_version, headers)


def _client(endpoint: Endpoint, api_version: str, headers: Mapping[str, bytes]) -> Client:
    from airflow_torchx.docker_engine.client import SdkClient

    return SdkClient(endpoint, api_version, headers)


def _check(endpoint: Endpoint) -> None:
    """Check what the libraries below report badly: `ssh` is installed, TLS files exist."""
    if endpoint.is_ssh and which("ssh") is None:
        raise EngineUnreachableError(
            f"no Docker daemon at {endpoint.url}: the program ssh is not installed.",
            fix="Install OpenSSH's client, so that `ssh` is on the PATH.",
        )
    files = (getattr(endpoint, name) for name in TLS_FIELDS if endpoint.uses_tls)
    for path in filter(None, files):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise EngineUnreachableError(
                f"no Docker daemon at {endpoint.url}: its TLS file {path} cannot be read: "
                f"{error.strerror}.",
                fix="Correct tls_ca, tls_cert or tls_private_key of the connection, or "
                "DOCKER_CERT_PATH.",
            ) from error


def _checked_version(response: Any, endpoint: Endpoint) -> str:  # noqa: ANN401 - any JSON at all
    version = response.get("ApiVersion") if isinstance(response, dict) else None
    try:
        numbers = [int(number) for number in str(version).split(".")]
    except ValueError:
        raise EngineUnreachableError(
            f"cannot connect: the server at {endpoint.url} is not a Docker daemon.",
            fix=_CHECK_ADDRESS,
        ) from None
    if numbers < [int(number) for number in MIN_API_VERSION.split(".")]:
        raise EngineError(
            f"the Docker daemon at {endpoint.url} supports API {version}; "
            f"{MIN_API_VERSION} or newer is required.",
            fix="Upgrade it to Docker Engine 20.10 or newer.",
        )
    return str(version)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    url = environ.get("DOCKER_HOST", "").strip()
    if not url:
        return {}
    verify, cert_path = bool(environ.get("DOCKER_TLS_VERIFY")), environ.get("DOCKER_CERT_PATH")
    if not (verify or cert_path):
        return {"url": url}
    folder = Path(cert_path) if cert_path else config_file.folder(environ)
    files = _tls_files(folder)
    if verify or not files:
        files["tls_ca"] = str(folder / "ca.pem")  # if missing: an error, not plain HTTP
    return {"url": url, "tls_verify": verify, **files}


def _from_context(environ: Mapping[str, str]) -> dict[str, Any]:
    name = environ.get("DOCKER_CONTEXT") or config_file.read(environ).current_context
    if not name or name == "default":
        return {}
    folder = config_file.folder(environ) / "contexts"
    key = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    try:
        found = parse_context((folder / "meta" / key / "meta.json").read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        raise _no_context(name, "does not exist or has no host") from None
    except OSError as error:
        raise _no_context(name, f"cannot be read: {error.strerror}") from error
    files = _tls_files(folder / "tls" / key / "docker")
    return {**found, **files}


def _no_context(name: str, why: str) -> EngineUnreachableError:
    return EngineUnreachableError(
        f"no Docker daemon: docker context {name!r} {why}.",
        fix="Select one of `docker context ls` with DOCKER_CONTEXT or `docker context use`, or "
        "set the host of the connection.",
    )


def _tls_files(folder: Path) -> dict[str, str]:
    """Return the paths of Docker's TLS files in a folder, those that exist."""
    files = {"tls_ca": "ca.pem", "tls_cert": "cert.pem", "tls_private_key": "key.pem"}
    # Path.is_file raises an error if the folder cannot be searched.
    return {
        key: str(folder / name)
        for key, name in files.items()
        if os.path.isfile(folder / name)  # noqa: PTH113
    }
