"""Why a registry did not do what the Engine asked of it, and what to do about it."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

from airflow_torchx.core.engine import full_disk
from airflow_torchx.docker_engine.logins import login_command


class Cause(Enum):
    """Why a pull or a push failed."""

    REFUSED = auto()  # no login, a wrong one, or one that may not do this
    PLAIN_HTTP = auto()  # the registry speaks no TLS, and the daemon insists on it
    UNTRUSTED = auto()  # its certificate does not check
    UNREACHABLE = auto()  # nobody answers at its address
    CUT = auto()  # it answered, and then the connection broke
    ABSENT = auto()  # the daemon has no such image
    FULL_DISK = auto()  # of the daemon
    OTHER = auto()

    @property
    def may_pass(self) -> bool:
        """Tell whether the same request may succeed a little later."""
        return self in (Cause.UNREACHABLE, Cause.CUT)


#: The Engine tells errors of a registry as text without a code, or with status 500 for most: its
#: words are all there is. They are Go's, and the codes of the registry's API in lower case.
#: https://distribution.github.io/distribution/spec/api/#errors-2
_WORDS: Final = (
    (Cause.FULL_DISK, full_disk.PATTERN),
    (Cause.REFUSED, r"\b(unauthorized|denied): |no basic auth credentials"),
    (Cause.PLAIN_HTTP, r"gave HTTP response to HTTPS client"),
    (Cause.UNTRUSTED, r"\bx509: |\btls: "),
    (Cause.CUT, r"\bEOF\b|connection reset|broken pipe|closed network connection|\b50[234] "),
    (Cause.CUT, r"read tcp .*timeout|server closed idle connection"),
    (Cause.UNREACHABLE, r"no such host|connection refused|no route to host|network is unreach"),
    (Cause.UNREACHABLE, r"timeout|Client\.Timeout|context deadline exceeded|server misbehaving"),
    (Cause.ABSENT, r"(?i)does not exist locally|tag does not exist|no such image"),
)


def cause_of(words: str) -> Cause:
    """Return what the Engine's words about a registry mean."""
    return next((cause for cause, pattern in _WORDS if re.search(pattern, words)), Cause.OTHER)


def login_advice(host: str) -> str:
    """Return how to give a login for a registry."""
    return (
        f"name an Airflow connection of type `docker` with host {host} in docker_conn_ids, or run "
        f"{login_command(host)} where this runs"
    )


def advice(cause: Cause, host: str) -> str | None:
    """Return what to do about a registry; None if that depends on what was asked of it."""
    match cause:
        case Cause.PLAIN_HTTP:
            return (
                f"{host} speaks HTTP without TLS: give it a certificate, or list it under "
                "insecure-registries in /etc/docker/daemon.json of the daemon's host."
            )
        case Cause.UNTRUSTED:
            return (
                f"The daemon does not trust the certificate of {host}: put its authority into "
                f"/etc/docker/certs.d/{host}/ca.crt on the daemon's host."
            )
        case Cause.UNREACHABLE:
            return f"Check that a registry runs at {host}, and that the daemon can reach it."
        case Cause.CUT:
            return (
                f"Check the network between the daemon and {host}, then try again: layers that "
                "have arrived are not sent again."
            )
        case Cause.FULL_DISK:
            return full_disk.ADVICE
        case _:
            return None
