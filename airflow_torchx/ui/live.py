"""What the page's routes answer: the state, the usage and the logs of an app on its daemon."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fastapi import HTTPException

from airflow_torchx.core.state.app_ref import app_ref
from airflow_torchx.errors import (
    AirflowTorchXError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
    NodeUnreachableError,
)
from airflow_torchx.ui.daemons import Daemons
from airflow_torchx.ui.reading import MOST_READ, look_at, read_log, read_usage
from airflow_torchx.ui.single_flight import SingleFlight
from airflow_torchx.ui.threads import ThreadsStuckError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from airflow_torchx.core.logs.lines import Cursor
    from airflow_torchx.core.state.live import TaskApp
    from airflow_torchx.ui.daemons import Daemon
    from airflow_torchx.ui.reading import LiveApp, LogPart

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

#: Seconds between two looks at one app, for any number of readers of one server process.
PAUSE_S: Final = 2.0
#: Seconds until a reader gets an error instead of an answer; the check of rights comes before.
ANSWER_S: Final = 4.5
GONE: Final = "the daemon has no container of this app: they were removed"
NO_NODE: Final = (
    "the API server cannot reach the daemon of a node of the swarm; see its log, and node_url of"
    " the connection"
)
STUCK: Final = (
    "all threads that read from the Docker daemon of this app hang; if the daemon answers others,"
    " restart the API server"
)


class Live:
    """Answers questions about apps, with a limited number of threads and of requests to daemons.

    Every method raises HTTPException: 404 for a connection or a container that does not exist, 502
    for an error of the daemon, 503 if all threads hang, and 504 if it does not answer in time. Its
    text names neither the daemon nor its error, which are in the log of the server.

    Args:
        answer_s: seconds until 504.
        clock: returns seconds that never decrease.
        now: returns the seconds since 1970.
    """

    def __init__(
        self,
        daemons: Daemons | None = None,
        answer_s: float = ANSWER_S,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._daemons = daemons or Daemons()
        self._answer_s = answer_s
        self._shared = SingleFlight(PAUSE_S, clock)
        self._now = now

    async def state(self, app: TaskApp) -> dict[str, Any]:
        """Return the snapshot of an app; None and a reason if its containers are gone."""
        _, found = await self._in_time(self._look(app))
        reason = "" if found.snapshot else GONE
        return {**_identity(app, found), "snapshot": found.snapshot, "reason": reason}

    async def usage(self, app: TaskApp) -> dict[str, Any]:
        """Return the counters of the running replicas of an app."""
        return await self._in_time(self._usage(app))

    async def log(
        self, app: TaskApp, role: str, replica: int, *, tail: int, after: Cursor | None
    ) -> tuple[LogPart, int]:
        """Return a part of a replica's log, and the try that launched the app."""
        return await self._in_time(self._read_log(app, role, replica, tail=tail, after=after))

    async def _look(self, app: TaskApp) -> tuple[Daemon, LiveApp]:
        async def look() -> tuple[Daemon, LiveApp]:
            daemon = await self._daemons.of(app_ref(app.handle).torchx_conn_id)
            return daemon, await daemon.call(partial(look_at, task_app=app, now_s=self._now()))

        return await self._shared.get(("look", app), look)

    async def _usage(self, app: TaskApp) -> dict[str, Any]:
        daemon, found = await self._look(app)

        async def read() -> list[dict[str, Any]]:
            return await daemon.call(partial(read_usage, app=found, threads=daemon.readers))

        counters = await self._shared.get(("usage", app), read) if found.running else []
        reason = "" if found.snapshot else GONE
        return {
            **_identity(app, found),
            "running": len(found.running),
            "asked": min(len(found.running), MOST_READ),
            "replicas": counters,
            "reason": reason,
        }

    async def _read_log(
        self, app: TaskApp, role: str, replica: int, *, tail: int, after: Cursor | None
    ) -> tuple[LogPart, int]:
        daemon, found = await self._look(app)
        container_id = found.container(role, replica)
        if container_id is None:
            raise HTTPException(
                int(HTTPStatus.NOT_FOUND), "the daemon has no container of this replica"
            )
        read = partial(read_log, container_id=container_id, tail=tail, after=after)
        return await daemon.call(read), found.attempt

    async def _in_time(self, answer: Coroutine[Any, Any, _Answer]) -> _Answer:
        try:
            with _http_errors():
                async with asyncio.timeout(self._answer_s):
                    return await answer
        except TimeoutError:
            raise _silent() from None


@contextmanager
def _http_errors() -> Iterator[None]:
    """Log an error, and raise HTTPException with a text that any reader of the DAG may read."""
    try:
        yield
    except ThreadsStuckError as error:
        _log.warning("%s", STUCK)
        raise HTTPException(int(HTTPStatus.SERVICE_UNAVAILABLE), STUCK) from error
    except EngineNotFoundError as error:
        raise HTTPException(
            int(HTTPStatus.NOT_FOUND), "the container has just been removed"
        ) from error
    except NodeUnreachableError as error:
        _log.warning("%s", error)
        raise HTTPException(int(HTTPStatus.GATEWAY_TIMEOUT), NO_NODE) from error
    except EngineUnreachableError as error:
        _log.warning("%s", error)
        raise _silent() from error
    except AirflowTorchXError as error:
        _log.warning("%s", error)
        raise _refused(error) from error


def _silent() -> HTTPException:
    return HTTPException(
        int(HTTPStatus.GATEWAY_TIMEOUT), "the Docker daemon of this app does not answer in time"
    )


def _refused(error: AirflowTorchXError) -> HTTPException:
    if isinstance(error, EngineError):
        text = "the Docker daemon of this app refuses a request; see the log of the API server"
        return HTTPException(int(HTTPStatus.BAD_GATEWAY), text)
    text = "its handle names no connection of type torchx_docker that works"
    return HTTPException(int(HTTPStatus.NOT_FOUND), text)


def _identity(app: TaskApp, found: LiveApp) -> dict[str, Any]:
    return {"app_id": app.app_id, "try": found.attempt}
