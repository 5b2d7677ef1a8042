"""Event streams and progress of pulls and pushes."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.amounts import size
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.docker_engine.request import request
from airflow_torchx.docker_engine.stream import shut_down
from airflow_torchx.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from airflow_torchx.docker_engine.request import Client, Response

_MB: Final = 1_000_000
_PROGRESS_S: Final = 1.0
_TICK_S: Final = 0.2
_QUEUE_SIZE: Final = 1000
_PRESENT: Final = ("Already exists", "Layer already exists", "Mounted from")
_DONE: Final = ("Pull complete", "Pushed", *_PRESENT)
#: After these, the progress of a layer is not about its transfer any more.
_TRANSFERRED: Final = ("Verifying Checksum", "Download complete", "Extracting", *_DONE)


@dataclass(slots=True)
class _Layer:
    done: bool = False
    present: bool = False
    retried: bool = False
    current_bytes: int = 0
    total_bytes: int = 0


class LayerProgress:
    """The progress of one pull or push, summed over its layers."""

    def __init__(self) -> None:
        self._layers: dict[str, _Layer] = {}
        #: The first error in the stream: its message, and its status if it has one.
        self.error: tuple[str, int | None] | None = None
        #: Whether any event arrived.
        self.has_begun = False

    def add(self, event: Mapping[str, Any]) -> None:
        """Add one event."""
        self.has_begun = True
        if "error" in event or "errorDetail" in event:
            detail = event.get("errorDetail") or {}
            message = detail.get("message") or event.get("error") or "no reason given"
            self.error = self.error or (str(message), detail.get("code"))
        elif event.get("id") and "progressDetail" in event:
            self._add_layer(event)

    @property
    def is_incomplete(self) -> bool:
        """Return whether a layer has been transferred only in part."""
        return any(layer.current_bytes < layer.total_bytes for layer in self._layers.values())

    @property
    def was_retried(self) -> bool:
        """Return whether the Engine itself has retried a layer that is not complete."""
        return any(layer.retried and not layer.done for layer in self._layers.values())

    def __str__(self) -> str:
        layers = self._layers.values()
        done = sum(layer.done for layer in layers)
        present = sum(layer.present for layer in layers)
        already = f" ({present} already there)" if present else ""
        current = size(sum(layer.current_bytes for layer in layers))
        total = size(sum(layer.total_bytes for layer in layers))
        return f"{done} of {len(layers)} layers{already}, {current} of {total}"

    def _add_layer(self, event: Mapping[str, Any]) -> None:
        layer = self._layers.setdefault(event["id"], _Layer())
        status, progress = event.get("status") or "", event["progressDetail"] or {}
        layer.done = status.startswith(_DONE)
        layer.present = status.startswith(_PRESENT)
        layer.retried = layer.retried or status.startswith("Retrying")
        if status.startswith(_TRANSFERRED):
            layer.current_bytes = layer.total_bytes
        elif progress.get("total"):
            # The total of a pushed layer is an estimate and may be exceeded.
            layer.current_bytes = progress.get("current") or 0
            layer.total_bytes = max(progress["total"], layer.current_bytes)


def follow(
    events: Generator[Mapping[str, Any]],
    progress: LayerProgress,
    on_progress: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Read events to their end and report progress, a short line, once a second.

    If ``on_progress`` raises, the events are closed, which cancels the transfer.
    """
    reported_s = clock()
    with closing(events):
        for event in events:
            if event:
                progress.add(event)
            if clock() >= reported_s + _PROGRESS_S:
                reported_s = clock()
                on_progress(str(progress))


def post(client: Client, path: str, params: Mapping[str, str], login: str | None) -> Response:
    """Start a transfer, with a header from `auth_header`, and return its response."""
    return request(
        client,
        "POST",
        path,
        params=params,
        headers={"X-Registry-Auth": login} if login else {},
        stream=True,
        timeout=(client.timeout, None),  # the daemon may send no event for minutes
    )


def read_events(response: Response, what: str, url: str) -> Generator[Mapping[str, Any]]:
    """Yield the events of a transfer, and an empty one several times a second while there is none.

    The empty ones let the caller cancel the transfer at any time, by closing the iterator.

    Raises:
        EngineUnreachableError: the connection was lost before the transfer ended.
    """
    # In a thread, because a read that times out within a line cannot be resumed.
    queue: Queue[Mapping[str, Any] | EngineError | None] = Queue(_QUEUE_SIZE)
    closed = threading.Event()

    def put(event: Mapping[str, Any] | EngineError | None) -> None:
        while not closed.is_set():
            with suppress(Full):
                queue.put(event, timeout=_TICK_S)
                return

    def read() -> None:
        try:
            with engine_errors(what, url):
                for line in response.iter_lines():
                    put(json.loads(line) if line else {})
            put(None)
        except EngineError as error:
            put(error)

    reader = threading.Thread(target=read, name="docker-events", daemon=True)
    reader.start()
    try:
        yield from _events(queue)
    finally:
        closed.set()
        shut_down(response.raw)
        reader.join()
        response.close()


def _events(queue: Queue[Mapping[str, Any] | EngineError | None]) -> Generator[Mapping[str, Any]]:
    while True:
        try:
            event = queue.get(timeout=_TICK_S)
        except Empty:
            event = {}
        if event is None:
            return
        if isinstance(event, EngineError):
            raise event
        yield event
