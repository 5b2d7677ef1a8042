"""Removal of a container by any number of clients, while others rename it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

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
    """Remove a container and its anonymous volumes; kill it first if it runs."""
    with suppress(EngineNotFoundError):
        for left in reversed(range(_REMOVALS)):
            try:
                _remove(client, url, container_id)
            except EngineError as error:
                # A rename at the same time writes a file into the folder that the daemon removes.
                # Engine 20.10 lists the container as `removing` then, or as `dead`, until it is
                # removed again.
                if not left or _NOT_EMPTY not in str(error):
                    raise
            else:
                return


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
