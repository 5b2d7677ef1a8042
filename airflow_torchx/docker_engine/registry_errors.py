"""Causes of failed pulls and pushes, found by the Engine's message, with their fixes."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

from airflow_torchx.core.engine import full_disk
from airflow_torchx.docker_engine.logins import login_command


class Cause(Enum):
    """The cause of a failed pull or push."""

    DENIED = auto()  # no login, a wrong one, or one without permission
    PLAIN_HTTP = auto()  # the registry does not use TLS, but the daemon requires it
    UNTRUSTED = auto()  # the registry's certificate is not valid
    UNREACHABLE = auto()  # the registry does not answer
    CONNECTION_LOST = auto()  # the registry answered, then the connection broke
    NOT_FOUND = auto()  # the daemon does not have the image
    FULL_DISK = auto()  # on the daemon's host
    OTHER = auto()

    @property
    def is_transient(self) -> bool:
        """Return whether a retry may succeed."""
        return self in (Cause.UNREACHABLE, Cause.CONNECTION_LOST)


#: The Engine reports most errors of a registry without a code or with status 500, so only the
#: message distinguishes them: Go's texts, and the codes of the registry API in lower case.
#: https://distribution.github.io/distribution/spec/api/#errors-2
_PATTERNS: Final = (
    (Cause.FULL_DISK, full_disk.PATTERN),
    (Cause.DENIED, r"\b(unauthorized|denied): |no basic auth credentials"),
    (Cause.PLAIN_HTTP, r"gave HTTP response to HTTPS client"),
    (Cause.UNTRUSTED, r"\bx509: |\btls: "),
    (
        Cause.CONNECTION_LOST,
        r"\bEOF\b|connection reset|broken pipe|closed network connection|\b50[234] ",
    ),
    (Cause.CONNECTION_LOST, r"read tcp .*timeout|server closed idle connection"),
    (Cause.UNREACHABLE, r"no such host|connection refused|no route to host|network is unreach"),
    (Cause.UNREACHABLE, r"timeout|Client\.Timeout|context deadline exceeded|server misbehaving"),
    (Cause.NOT_FOUND, r"(?i)does not exist locally|tag does not exist|no such image"),
)


def cause_of(message: str) -> Cause:
    """Return the cause that a message of the Engine stands for."""
    return next((cause for cause, pattern in _PATTERNS if re.search(pattern, message)), Cause.OTHER)


def login_advice(host: str) -> str:
    """Return how to add a login for a registry."""
    return (
        f"add an Airflow connection of type `docker` with host {host} to docker_conn_ids, or run "
        f"{login_command(host)} on this host"
    )


def advice(cause: Cause, host: str) -> str | None:
    """Return what to do about a cause; None if that depends on the request."""
    match cause:
        case Cause.PLAIN_HTTP:
            return (
                f"{host} uses HTTP without TLS: give it a certificate, or add it to "
                "insecure-registries in /etc/docker/daemon.json on the daemon's host."
            )
        case Cause.UNTRUSTED:
            return (
                f"The daemon does not trust the certificate of {host}: copy its CA certificate to "
                f"/etc/docker/certs.d/{host}/ca.crt on the daemon's host."
            )
        case Cause.UNREACHABLE:
            return f"Check that a registry runs at {host}, and that the daemon can reach it."
        case Cause.CONNECTION_LOST:
            return (
                f"Check the network between the daemon and {host}, then try again; completed "
                "layers are not transferred again."
            )
        case Cause.FULL_DISK:
            return full_disk.ADVICE
        case _:
            return None
