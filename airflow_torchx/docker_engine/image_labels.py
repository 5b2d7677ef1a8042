"""The labels that a container would inherit from its image."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow_torchx.docker_engine.request import Client

#: Replicas of one launch share an answer. A name may stand for another image after that time.
KEPT_S: Final = 5.0


class ImageLabels:
    """Asks the daemon once for an image of which many containers are created.

    Args:
        client: of the daemon.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._found: dict[str, tuple[float, tuple[str, ...]]] = {}

    def names(self, ref: str) -> tuple[str, ...]:
        """Return the names of the labels of an image."""
        # All threads of a launch ask at the same time: the first one asks the daemon.
        with self._lock:
            now = time.monotonic()
            at, found = self._found.get(ref, (now - KEPT_S, ()))
            if now - at >= KEPT_S:
                answer = self._client.inspect_image(ref)
                found = tuple((answer["Config"] or {}).get("Labels") or ())
                self._found = {ref: (now, found)}
            return found
