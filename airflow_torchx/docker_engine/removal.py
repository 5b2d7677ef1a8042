"""Removal of a container by any number of clients, while others rename it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine.containers import DISCARDED_PREFIX
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.docker_engine.responses import short_id
from airflow_torchx.errors import EngineConflictError, EngineError, EngineNotFoundError

if TYPE_CHECKING:
    from airflow_torchx.docker_engine.request import Client

#: The answer of the daemon to a rename and to a removal at the same time.
_NOT_EMPTY: Final = "directory not empty"
# An app that is stopped is renamed twice at most.
_REMOVALS: Final = 5


def remove(client: Client, url: str, container_id: str) -> None:
    """Kill and remove a container with its anonymous volumes.

    It gets a name of its own before its removal, once it does not run. Engine 20.10 lists a
    container without a name until it restarts, or keeps its name taken, if a client renames it
    during its removal: 21 of 300 times at random moments. Clients rename by name, so none of them
    does so after this: 0 of 300 times. One that runs keeps the name that shows its app.
    """
    _end(client, url, container_id)
    with suppress(EngineNotFoundError):
        for left in reversed(range(_REMOVALS)):
            try:
                _remove(client, url, container_id)
            except EngineError as error:
                # A client that renames by id writes a file into the folder that the daemon removes.
                # Engine 20.10 lists the container as `removing` then, or as `dead`, until it is
                # removed again.
                if not left or _NOT_EMPTY not in str(error):
                    raise
            else:
                return


def _end(client: Client, url: str, container_id: str) -> None:
    name = DISCARDED_PREFIX + container_id
    steps = {
        "kill": partial(client.kill, container_id),
        "rename": partial(client.rename, container_id, name),
    }
    for verb, step in steps.items():
        try:
            with engine_errors(f"{verb} container {short_id(container_id)}", url):
                step()
        except EngineError as error:
            # It does not run, or is gone, or another client or the daemon works on it.
            if error.status is None:
                raise


def _remove(client: Client, url: str, container_id: str) -> None:
    what = f"remove container {short_id(container_id)}"
    try:
        with engine_errors(what, url):
            client.remove_container(container_id, v=True, force=True)
    except EngineConflictError:
        # With force, the only possible conflict is a removal in progress.
        with engine_errors(what, url):
            answer = client.wait(container_id, condition="removed")
        if failed := (answer.get("Error") or {}).get("Message"):
            raise EngineError(f"cannot {what}: {failed}") from None
