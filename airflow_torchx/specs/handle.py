"""Builds and parses app handles: ``scheduler://session/app_id``."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeAlias

from airflow_torchx.errors import InvalidHandleError

#: TorchX's name of the type of a handle.
AppHandle: TypeAlias = str

# Greedy as in TorchX: a session may contain slashes, an app id may not.
_HANDLE: Final = re.compile(r"(.+)://(.*)/(.+)")

#: The scheduler in the handles of apps on one Docker daemon.
SCHEDULER: Final = "local_docker"
#: The scheduler in the handles of apps on a Docker Swarm.
SWARM_SCHEDULER: Final = "docker_swarm"


class ParsedAppHandle(NamedTuple):
    """Holds the parts of a handle; ``session_name`` may be empty."""

    scheduler_backend: str
    session_name: str
    app_id: str


def make_app_handle(scheduler_backend: str, session_name: str, app_id: str) -> str:
    """Return the handle of an app."""
    return f"{scheduler_backend}://{session_name}/{app_id}"


def parse_app_handle(app_handle: str) -> ParsedAppHandle:
    """Return the parts of a handle.

    Raises:
        InvalidHandleError: the text is not a handle.
    """
    match = _HANDLE.fullmatch(app_handle) if isinstance(app_handle, str) else None
    if match is None:
        raise InvalidHandleError(app_handle)
    return ParsedAppHandle(*match.groups())
