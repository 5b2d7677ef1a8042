"""Parses how to reach a Docker daemon from an Airflow connection."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import SplitResult, urlsplit

from airflow_torchx.core.connection import pem
from airflow_torchx.core.plan import option_values as values
from airflow_torchx.errors import InvalidAppError, Problem
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_torchx.core.connection.pem import Pem
    from airflow_torchx.core.connection.swarm import Swarm

#: The docker command line's default.
DEFAULT_URL: Final = "unix:///var/run/docker.sock"

_SOCKET_SCHEMES: Final = ("unix", "http+unix")
_TCP_SCHEMES: Final = ("tcp", "http", "https")
_SCHEMES: Final = (*_SOCKET_SCHEMES, *_TCP_SCHEMES, "ssh")
#: Fields with a certificate or a key, as a path or as PEM text.
TLS_FIELDS: Final = ("tls_ca", "tls_cert", "tls_private_key")
#: Errors do not repeat the values of these: a URL may have a password, which its problem masks.
_SECRET_FIELDS: Final = (*TLS_FIELDS, "managers", "node_url")
#: Errors do not repeat longer values.
_SHOWN_CHARS: Final = 60
_PORT: Final = 2375
_TLS_PORT: Final = 2376


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """How to reach a daemon.

    Args:
        url: ``unix://``, ``tcp://``, ``ssh://``, ``http://``, ``https://`` or ``http+unix://``;
            None for the URL and TLS settings of the docker command line.
        tls_ca: path or PEM text of the certificate authority of the daemon's certificate; without
            it and ``tls_cert``, ``tcp://`` does not use TLS.
        tls_cert: path or PEM text of the client certificate.
        tls_private_key: path or PEM text of its private key.
        tls_verify: verify the daemon's certificate.
        api_version: Engine API version, like ``1.43``; None for the daemon's own.
        request_timeout_s: timeout of one request, in seconds; not applied to waiting for a
            container, following a log or pulling an image.
        max_connections: how many idle connections to keep for reuse; not a limit.
        swarm: the swarm of which the daemon is a manager; None to use the daemon alone.
    """

    url: str | None = None
    tls_ca: str | Pem | None = None
    tls_cert: str | Pem | None = None
    tls_private_key: str | Pem | None = None
    tls_verify: bool = True
    api_version: str | None = None
    request_timeout_s: float = 60.0
    max_connections: int = 128
    swarm: Swarm | None = None

    @property
    def uses_tls(self) -> bool:
        """Whether the connection to ``url`` uses TLS."""
        scheme = (self.url or "").partition("://")[0]
        return scheme == "https" or (scheme == "tcp" and bool(self.tls_ca or self.tls_cert))

    @property
    def is_socket(self) -> bool:
        """Whether ``url`` is a unix socket on this host."""
        return (self.url or "").partition("://")[0] in _SOCKET_SCHEMES

    @property
    def is_ssh(self) -> bool:
        """Whether ``url`` is a host that is reached by the program `ssh`."""
        return (self.url or "").startswith("ssh://")

    @classmethod
    def parse(cls, host: str | None, extra: Mapping[str, object]) -> Self:
        """Return the endpoint in an Airflow connection, whose host is the daemon's URL.

        The host is empty for the docker command line's default. Empty fields are ignored.

        Raises:
            InvalidAppError: with one problem for every invalid field.
        """
        url = (host or "").strip() or None
        found = url_problem(url) if url else None
        problems = [Problem("host", *found)] if found else []
        given: dict[str, Any] = {}
        for key, value in extra.items():
            if key not in _READERS:
                problems.append(Problem(f"extra.{key}", "no such field", suggest(key, _READERS)))
            elif value not in (None, ""):
                try:
                    given[key] = _READERS[key](value)
                except ValueError as error:
                    problems.append(Problem(f"extra.{key}", invalid_value(key, value), str(error)))
        problems += _tls_problems(url, extra)
        if problems:
            raise InvalidAppError(problems, subject="connection")
        return cls(url=url, **given)


def url_problem(url: str) -> tuple[str, str] | None:
    """Return what is wrong with a daemon's URL, and what to write; None if it is valid."""
    shown = repr(re.sub("//.*@", "//…@", url, flags=re.DOTALL))  # without a password
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for an invalid port
    except ValueError:
        return f"{shown} is not a URL", f"write it like {DEFAULT_URL} or tcp://host:2376"
    if url.partition("://")[0] not in _SCHEMES:  # others read it in this case only
        example = DEFAULT_URL if "/" in url.rpartition("//")[2] else "tcp://host:2376"
        return f"{shown} has none of the schemes {', '.join(_SCHEMES)}", f"write it like {example}"
    problem = _socket_problem if parts.scheme in _SOCKET_SCHEMES else _host_problem
    found = problem(parts)
    return (f"{shown} {found[0]}", found[1]) if found else None


def invalid_value(key: str, value: object) -> str:
    """Return what is wrong with a field; its value is in it only if it cannot be a secret."""
    # A private key may have been pasted into any field.
    text = repr(value)
    is_shown = key not in _SECRET_FIELDS and len(text) <= _SHOWN_CHARS
    return f"invalid value {text}" if is_shown else "invalid value"


def complete_url(endpoint: Endpoint) -> str:
    """Return the URL of an endpoint, with Docker's default port if it has none."""
    url = endpoint.url or DEFAULT_URL
    parts = urlsplit(url)
    if parts.scheme not in _TCP_SCHEMES or parts.port:
        return url
    port = _TLS_PORT if endpoint.uses_tls else _PORT
    return parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{port}").geturl()


def is_same_url(url: str, endpoint: Endpoint) -> bool:
    """Return whether a URL, perhaps without Docker's default port, is that of an endpoint."""
    return url == endpoint.url or (
        url_problem(url) is None and complete_url(replace(endpoint, url=url)) == endpoint.url
    )


def _socket_problem(parts: SplitResult) -> tuple[str, str] | None:
    if not parts.netloc and parts.path.strip("/"):
        return None
    path = (parts.netloc + parts.path).strip("/") or "var/run/docker.sock"
    return "has no absolute path", f"did you mean {f'{parts.scheme}:///{path}'!r}?"


def _host_problem(parts: SplitResult) -> tuple[str, str] | None:
    if not parts.hostname:
        return "has no host", f"write it like {parts.scheme}://host"
    if parts.query or parts.fragment or parts.password or (parts.scheme == "ssh" and parts.path):
        return "has more than scheme, host and port", "remove the rest"
    return None


def _tls_problems(url: str | None, extra: Mapping[str, object]) -> Iterator[Problem]:
    given = [key for key in TLS_FIELDS if extra.get(key) not in (None, "")]
    for one, other in (("tls_cert", "tls_private_key"), ("tls_private_key", "tls_cert")):
        if one in given and other not in given:
            yield Problem(f"extra.{other}", f"missing, but {one} is set", "set both")
    scheme = (url or "").partition("://")[0]
    if scheme not in ("tcp", "https"):
        what = f"does not apply to {f'{scheme}://' if scheme else 'a connection without a host'}"
        for key in given:
            yield Problem(f"extra.{key}", what, "remove it, or set a tcp:// host")


def _api_version(value: object) -> str:
    if re.fullmatch(r"\d+\.\d+", str(value)):
        return str(value)
    raise ValueError("give a version like 1.43, as a string")


def _timeout_s(value: object) -> float:
    if (number := values.seconds(value)) > 0:
        return number
    raise ValueError("give a number of seconds above 0")


_READERS: Final[Mapping[str, Callable[[object], object]]] = {
    "tls_ca": pem.certificate,
    "tls_cert": pem.certificate,
    "tls_private_key": pem.private_key,
    "tls_verify": values.flag,
    "api_version": _api_version,
    "request_timeout_s": _timeout_s,
    "max_connections": values.count,
}
#: The fields that `Endpoint.parse` reads.
ENDPOINT_FIELDS: Final = tuple(_READERS)
