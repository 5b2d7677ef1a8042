"""Removal of a container by exactly one of several clients."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.containers import DISCARDED_PREFIX
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.docker_engine.responses import short_id
from airflow_torchx.errors import EngineConflictError, EngineError, EngineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.docker_engine.request import Client

    Json = Mapping[str, Any]

_log = logging.getLogger(__name__)

_LIVE: Final = ("running", "paused", "restarting")


def discard(client: Client, url: str, container_id: str) -> bool:
    """Remove a container that does not run, and return whether this call discarded it.

    Docker confirms a removal also to a client whose request overtakes the end of another removal:
    in 19 of 1,500 races of six clients. It renames a container to one name only once. So the client
    that renames it is the one that discards it.

    Raises:
        EngineConflictError: the container runs.
    """
    what, name = f"discard container {short_id(container_id)}", DISCARDED_PREFIX + container_id
    found = _inspect(client, url, what, container_id)
    if found is None or _state(found) == "removing":
        return False
    if _state(found) in _LIVE:
        current = str(found["Name"]).removeprefix("/")
        why = f"cannot discard container {current}: it is {_state(found)}."
        fix = f"Stop it first, or remove it: `docker rm --force {current}`."
        raise EngineConflictError(why, fix=fix, status=HTTPStatus.CONFLICT)
    is_first = _rename(client, url, what, container_id, name)
    # The second client finishes what the first one may have been killed at.
    try:
        with engine_errors(what, url):
            client.remove_container(container_id, v=True)
    except (EngineNotFoundError, EngineConflictError):
        pass
    except EngineError as error:
        # The name has decided, and frees what the container held. A later launch removes the rest.
        _log.warning("%s", error)
    return is_first


def _rename(client: Client, url: str, what: str, container_id: str, name: str) -> bool:
    """Rename a container, and return False if it has the name already, or is being removed."""
    try:
        with engine_errors(what, url):
            client.rename(container_id, name)
    except EngineError as error:
        if error.status is None:
            raise
        # The status does not show which.
        found = _inspect(client, url, what, container_id)
        if found and _state(found) != "removing" and found["Name"] != f"/{name}":
            raise
        return False
    return True


def _inspect(client: Client, url: str, what: str, container_id: str) -> Json | None:
    try:
        with engine_errors(what, url):
            found: Json = client.inspect_container(container_id)
            return found
    except EngineNotFoundError:
        return None


def _state(found: Json) -> str:
    return str(found["State"]["Status"])
