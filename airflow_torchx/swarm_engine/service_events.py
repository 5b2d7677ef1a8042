"""Which services of a swarm have changed, by the events of a manager."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.daemons import in_daemon
from airflow_torchx.docker_engine.stream import LogStream
from airflow_torchx.errors import EngineError
from airflow_torchx.swarm_engine.managers import filters

if TYPE_CHECKING:
    from airflow_torchx.swarm_engine.managers import Managers

_WHAT: Final = "follow events of the swarm"
_PARAMS: Final = filters({"type": ["service", "node"], "scope": ["swarm"]})
#: Between two connections, when a manager ends one.
_AGAIN_S: Final = 2.0
#: A manager answers before it has subscribed to events, so the second look may see more.
_LOOKS: Final = 2


class ServiceEvents:
    """Collects the ids of services that change, in a thread of its own."""

    def __init__(self, managers: Managers) -> None:
        self._managers = managers
        self._closed = threading.Event()
        self._woken = threading.Event()
        self._lock = threading.Lock()
        self._changed: set[str] = set()
        self._is_open = False
        #: How many looks must be at all services, as events may have been missed.
        self._whole = _LOOKS
        self._stream: LogStream | None = None
        in_daemon(self._listen, "torchx-swarm-events")

    def wait(self, timeout_s: float) -> bool:
        """Wait for a change of a service or a node, and return whether one came."""
        return self._woken.wait(timeout_s)

    def take(self) -> frozenset[str] | None:
        """Return the services that have changed since the last call; None if any may have."""
        self._woken.clear()
        with self._lock:
            found, self._changed = frozenset(self._changed), set()
            if self._is_open and not self._whole:
                return found
            self._whole = max(0, self._whole - self._is_open)
            return None

    def close(self) -> None:
        """End, and wake who waits. Idempotent."""
        self._closed.set()
        self._woken.set()
        if (stream := self._stream) is not None:
            stream.close()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                self._read()
            except EngineError:
                pass
            finally:
                with self._lock:
                    self._is_open, self._whole = False, _LOOKS
            self._closed.wait(_AGAIN_S)

    def _read(self) -> None:
        response = self._managers.send("GET", "/events", _WHAT, params=_PARAMS, stream=True)
        url = str(self._managers.engine.endpoint.url)
        self._stream = stream = LogStream(response.raw, what=_WHAT, url=url, follow=True)
        if self._closed.is_set():
            stream.close()
        with self._lock:
            self._is_open = True
        self._woken.set()
        rest = b""
        for chunk in stream:
            *lines, rest = (rest + chunk).split(b"\n")
            with self._lock:
                self._changed.update(filter(None, map(changed_service, lines)))
            self._woken.set()


def changed_service(line: bytes) -> str:
    """Return the id of the service in an event; empty if its replica cannot have changed.

    A service of ours does not run when it is created.
    """
    try:
        event = json.loads(line)
    except ValueError:
        return ""
    if event.get("Type") != "service" or event.get("Action") == "create":
        return ""
    return str((event.get("Actor") or {}).get("ID") or "")
