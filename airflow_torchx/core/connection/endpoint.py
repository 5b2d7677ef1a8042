"""How to reach a Docker daemon: what a connection says about it, checked; pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, cast
from urllib.parse import SplitResult, urlsplit

from airflow_torchx.core.connection import pem
from airflow_torchx.core.plan import option_values as values
from airflow_torchx.errors import InvalidAppError, Problem
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_torchx.core.connection.pem import Pem

#: Where the docker command line looks when nothing says otherwise.
DEFAULT_URL: Final = "unix:///var/run/docker.sock"

_SOCKET_SCHEMES: Final = ("unix", "http+unix")
_TCP_SCHEMES: Final = ("tcp", "http", "https")
_SCHEMES: Final = (*_SOCKET_SCHEMES, *_TCP_SCHEMES, "ssh")
#: What holds certificates and the key, each a path or a text.
TLS_FIELDS: Final = ("tls_ca", "tls_cert", "tls_private_key")
#: Longer values of other fields are not repeated in an error.
_SHOWN_CHARS: Final = 60
_PORT: Final = 2375
_TLS_PORT: Final = 2376


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """How to reach a daemon.

    Args:
        url: ``unix://``, ``tcp://``, ``ssh://``, ``http://``, ``https://`` or ``http+unix://``;
            None for what the docker command line would use, TLS included.
        tls_ca: the certificate authority that signed the daemon's certificate, a path or its text;
            with neither this nor a certificate of our own, ``tcp://`` is plain text.
        tls_cert: our certificate, a path or its text.
        tls_private_key: its private key, a path or its text.
        tls_verify: refuse a daemon whose certificate does not check.
        api_version: Engine API version to speak, like ``1.43``; None for the daemon's own.
        request_timeout_s: how long the daemon may take to answer a request, in seconds; waiting
            for a container, following a log and pulling an image take longer.
        max_connections: how many connections are kept for the next request; it limits nothing.
    """

    url: str | None = None
    tls_ca: str | Pem | None = None
    tls_cert: str | Pem | None = None
    tls_private_key: str | Pem | None = None
    tls_verify: bool = True
    api_version: str | None = None
    request_timeout_s: float = 60.0
    max_connections: int = 128

    @property
    def uses_tls(self) -> bool:
        """Tell whether the connection to ``url`` is encrypted by TLS."""
        scheme = (self.url or "").partition("://")[0]
        return scheme == "https" or (scheme == "tcp" and bool(self.tls_ca or self.tls_cert))

    @property
    def is_socket(self) -> bool:
        """Tell whether ``url`` is a unix socket of this host."""
        return (self.url or "").partition("://")[0] in _SOCKET_SCHEMES

    @classmethod
    def parse(cls, host: str | None, extra: Mapping[str, object]) -> Self:
        """Return the endpoint that a connection describes.

        Args:
            host: the URL; empty for what the docker command line would use.
            extra: the other fields, by name; empty values are as good as absent ones.

        Raises:
            InvalidAppError: with one problem for every field that is wrong.
        """
        url = (host or "").strip() or None
        problems = [*_host_problems(url)]
        given: dict[str, Any] = {}
        for key, value in extra.items():
            if key not in _READERS:
                what = "there is no such field"
                problems.append(Problem(f"extra.{key}", what, suggest(key, _READERS)))
            elif value not in (None, ""):
                try:
                    given[key] = _READERS[key](value)
                except ValueError as error:
                    problems.append(Problem(f"extra.{key}", _refusal(key, value), str(error)))
        problems += _tls_problems(url, extra)
        if problems:
            raise InvalidAppError(problems, subject="connection")
        return cls(url=url, **given)


def url_problem(url: str) -> tuple[str, str] | None:
    """Return what is wrong with a daemon's URL, and what to write; None when it is fine."""
    shown = repr(re.sub("//[^/]*@", "//…@", url))  # a password is not for the log
    parts = _split(url)
    if parts is None:
        return f"{shown} is no URL", f"write it like {DEFAULT_URL} or tcp://host:2376"
    if parts.scheme not in _SCHEMES or "://" not in url:
        meant = DEFAULT_URL if "/" in url.rpartition("//")[2] else "tcp://host:2376"
        return f"{shown} has none of the schemes {', '.join(_SCHEMES)}", f"write it like {meant}"
    problem = _socket_problem if parts.scheme in _SOCKET_SCHEMES else _host_problem
    found = problem(parts)
    return (f"{shown} {found[0]}", found[1]) if found else None


def complete_url(endpoint: Endpoint) -> str:
    """Return the URL of an endpoint with the port that Docker uses when none is given."""
    url = endpoint.url or DEFAULT_URL
    parts = urlsplit(url)
    if parts.scheme not in _TCP_SCHEMES or parts.port:
        return url
    port = _TLS_PORT if endpoint.uses_tls else _PORT
    return parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{port}").geturl()


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a port that is no number, or too large
    except ValueError:
        return None
    return parts


def _socket_problem(parts: SplitResult) -> tuple[str, str] | None:
    if not parts.netloc and parts.path.strip("/"):
        return None
    path = (parts.netloc + parts.path).strip("/") or "var/run/docker.sock"
    return "has no absolute path", f"did you mean {f'{parts.scheme}:///{path}'!r}?"


def _host_problem(parts: SplitResult) -> tuple[str, str] | None:
    if not parts.hostname:
        return "has no host", f"write it like {parts.scheme}://host"
    if parts.query or parts.fragment or parts.password or (parts.scheme == "ssh" and parts.path):
        return "has more than scheme, host and port", "leave out the rest"
    return None


def _host_problems(url: str | None) -> list[Problem]:
    found = url_problem(url) if url else None
    return [Problem("host", *found)] if found else []


def _refusal(key: str, value: object) -> str:
    """Return what is wrong with a value; a key that was put into the wrong field is not told."""
    shown = repr(value)
    is_telling = key not in TLS_FIELDS and len(shown) <= _SHOWN_CHARS
    return f"cannot be {shown}" if is_telling else "cannot be this"


def _tls_problems(url: str | None, extra: Mapping[str, object]) -> Iterator[Problem]:
    given = [key for key in TLS_FIELDS if extra.get(key) not in (None, "")]
    for one, other in (("tls_cert", "tls_private_key"), ("tls_private_key", "tls_cert")):
        if one in given and other not in given:
            yield Problem(f"extra.{other}", f"is missing beside {one}", "give both")
    scheme = (url or "").partition("://")[0]
    if scheme not in ("tcp", "https"):
        what = f"has no use for {f'{scheme}://' if scheme else 'a connection without a host'}"
        for key in given:
            yield Problem(f"extra.{key}", what, "leave it out, or give a tcp:// host")


def _api_version(value: object) -> str:
    if re.fullmatch(r"\d+\.\d+", str(value)):
        return str(value)
    msg = "give a version like 1.43, as a text"
    raise ValueError(msg)


def _timeout_s(value: object) -> float:
    if (number := values.seconds(value)) > 0:
        return number
    msg = "give a number of seconds above 0"
    raise ValueError(msg)


def _count(value: object) -> int:
    try:
        number = math.nan if isinstance(value, bool) else float(cast("str", value))
    except (TypeError, ValueError):
        number = math.nan
    if number >= 1 and number.is_integer():
        return int(number)
    msg = "give a whole number, 1 or more"
    raise ValueError(msg)


_READERS: Final[Mapping[str, Callable[[object], object]]] = {
    "tls_ca": pem.certificate,
    "tls_cert": pem.certificate,
    "tls_private_key": pem.private_key,
    "tls_verify": values.flag,
    "api_version": _api_version,
    "request_timeout_s": _timeout_s,
    "max_connections": _count,
}
#: The fields of a connection's extra that `Endpoint.parse` reads.
ENDPOINT_FIELDS: Final = tuple(_READERS)
