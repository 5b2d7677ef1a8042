"""The daemon's stream of container events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import EVENT_ACTIONS, ContainerEvent
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.errors import EngineUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.docker_engine.stream import LogStream

_FILTERS: Final = {"type": ["container"], "event": list(EVENT_ACTIONS)}
#: The request, for error messages.
WHAT: Final = "follow container events"


def event_params(*, all_containers: bool) -> dict[str, str]:
    """Return the parameters of ``GET /events``."""
    ours = {} if all_containers else {"label": [labels.APP_ID]}
    return {"filters": json.dumps(_FILTERS | ours)}


class EventStream:
    """Container events, from the response of ``GET /events``."""

    def __init__(self, lines: LogStream, url: str) -> None:
        self._lines = lines
        self._url = url
        self._is_closed = False

    def __iter__(self) -> Iterator[ContainerEvent]:
        """Yield events until `close` is called.

        Raises:
            EngineUnreachableError: the connection was lost, or the daemon closed it.
        """
        rest = b""
        for chunk in self._lines:
            *whole, rest = (rest + chunk).split(b"\n")
            for line in filter(bytes.strip, whole):
                with engine_errors(WHAT, self._url):
                    answer = json.loads(line)
                yield container_event(answer)
        if not self._is_closed:
            raise EngineUnreachableError(
                f"the Docker daemon at {self._url} closed its event stream.",
                fix="Check whether it was restarted (`docker version`), then try again.",
            )

    def close(self) -> None:
        """End the stream, even while another thread waits for an event. Idempotent."""
        self._is_closed = True
        self._lines.close()


def container_event(answer: dict[str, Any]) -> ContainerEvent:
    """Return one event of ``GET /events``."""
    actor = answer.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    code = attributes.get("exitCode")
    return ContainerEvent(
        container_id=actor.get("ID") or "",
        name=attributes.get("name") or "",
        labels=labels.without_masked(
            {k: v for k, v in attributes.items() if k.startswith(labels.RESERVED_PREFIXES)}
        ),
        action=answer.get("Action") or "",
        time_ns=answer.get("timeNano") or 0,
        exit_code=None if code is None else int(code),
    )
