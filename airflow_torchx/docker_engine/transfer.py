"""What a pull and a push share: a stream of events, and how far the layers in it are."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.docker_engine.errors import asking
from airflow_torchx.docker_engine.stream import shut
from airflow_torchx.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

_MB: Final = 1_000_000
_PROGRESS_S: Final = 1.0
#: Between two looks at whether to go on.
_TICK_S: Final = 0.2
_MOST_WAITING: Final = 1000
_PRESENT: Final = ("Already exists", "Layer already exists", "Mounted from")
_DONE: Final = ("Pull complete", "Pushed", *_PRESENT)
#: From here on the numbers of a layer are about something else than its transfer.
_MOVED: Final = ("Verifying Checksum", "Download complete", "Extracting", *_DONE)


@dataclass(slots=True)
class _Layer:
    done: bool = False
    present: bool = False
    retried: bool = False
    current_bytes: int = 0
    total_bytes: int = 0


class LayerProgress:
    """Adds up the events of one pull or push."""

    def __init__(self) -> None:
        self._layers: dict[str, _Layer] = {}
        #: The first error in the stream: the Engine's words and its status, if it told one.
        self.error: tuple[str, int | None] | None = None
        #: Whether any event has come.
        self.has_begun = False

    def add(self, event: Mapping[str, Any]) -> None:
        """Take one event."""
        self.has_begun = True
        if "error" in event or "errorDetail" in event:
            detail = event.get("errorDetail") or {}
            words = detail.get("message") or event.get("error") or "no reason given"
            self.error = self.error or (str(words), detail.get("code"))
        elif event.get("id") and "progressDetail" in event:
            self._add_layer(event)

    @property
    def is_cut(self) -> bool:
        """Tell whether a layer is in the middle of its transfer."""
        return any(layer.current_bytes < layer.total_bytes for layer in self._layers.values())

    @property
    def was_retried(self) -> bool:
        """Tell whether the Engine itself has tried again with a layer that is not done yet."""
        return any(layer.retried and not layer.done for layer in self._layers.values())

    def __str__(self) -> str:
        layers = self._layers.values()
        done = sum(layer.done for layer in layers)
        present = sum(layer.present for layer in layers)
        were_there = f" ({present} already there)" if present else ""
        current = sum(layer.current_bytes for layer in layers) // _MB
        total = sum(layer.total_bytes for layer in layers) // _MB
        return f"{done} of {len(layers)} layers{were_there}, {current:,} of {total:,} MB"

    def _add_layer(self, event: Mapping[str, Any]) -> None:
        layer = self._layers.setdefault(event["id"], _Layer())
        status, progress = event.get("status") or "", event["progressDetail"] or {}
        layer.done = status.startswith(_DONE)
        layer.present = status.startswith(_PRESENT)
        layer.retried = layer.retried or status.startswith("Retrying")
        if status.startswith(_MOVED):
            layer.current_bytes = layer.total_bytes
        elif progress.get("total"):
            # The size of a layer that is pushed is an estimate, which what is sent may exceed.
            layer.current_bytes = progress.get("current") or 0
            layer.total_bytes = max(progress["total"], layer.current_bytes)


def follow(
    events: Generator[Mapping[str, Any]],
    progress: LayerProgress,
    on_progress: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Read events to their end, and call ``on_progress`` once a second.

    Args:
        events: closed at once if ``on_progress`` raises, which makes the daemon give up as well.
        progress: what they are added to.
        on_progress: called with a short line.
        clock: returns seconds; it never goes back.
    """
    told_s = clock()
    with closing(events):
        for event in events:
            if event:
                progress.add(event)
            if clock() >= told_s + _PROGRESS_S:
                told_s = clock()
                on_progress(str(progress))


def post(
    client: Any,  # noqa: ANN401 - Docker's SDK has no types
    path: str,
    params: Mapping[str, str],
    login: str | None,
) -> Any:  # noqa: ANN401 - see client
    """Start a transfer and return its response, to be read by `read_events`.

    Args:
        client: a `docker.APIClient`.
        path: below the API's version.
        params: of the query.
        login: what `logins.header` returned.
    """
    response = client.post(
        f"{client.base_url}/v{client.api_version}{path}",
        params=params,
        headers={"X-Registry-Auth": login} if login else {},
        stream=True,
        timeout=(client.timeout, None),  # between two events any time may pass
    )
    response.raise_for_status()
    return response


def read_events(
    response: Any,  # noqa: ANN401 - requests has no types of its own
    what: str,
    url: str,
) -> Generator[Mapping[str, Any]]:
    """Yield the events of a transfer, and an empty one now and then while there is none.

    So whoever reads them can leave several times a second, which ends the transfer.

    Args:
        response: of `post`.
        what: what was asked, after "cannot".
        url: the daemon.

    Raises:
        EngineUnreachableError: the connection broke before the daemon ended the transfer.
    """
    # A read that times out in the middle of a line cannot be taken up again, so a thread waits.
    found: Queue[Mapping[str, Any] | EngineError | None] = Queue(_MOST_WAITING)
    left = threading.Event()

    def hand(event: Mapping[str, Any] | EngineError | None) -> None:
        while not left.is_set():
            with suppress(Full):
                found.put(event, timeout=_TICK_S)
                return

    def read() -> None:
        try:
            with asking(what, url):
                for line in response.iter_lines():
                    hand(json.loads(line) if line else {})
            hand(None)
        except EngineError as error:
            hand(error)

    reader = threading.Thread(target=read, name="docker-events", daemon=True)
    reader.start()
    try:
        yield from _taken(found)
    finally:
        left.set()
        shut(response.raw)
        reader.join()
        response.close()


def _taken(
    found: Queue[Mapping[str, Any] | EngineError | None],
) -> Generator[Mapping[str, Any]]:
    while True:
        try:
            event = found.get(timeout=_TICK_S)
        except Empty:
            event = {}
        if event is None:
            return
        if isinstance(event, EngineError):
            raise event
        yield event
