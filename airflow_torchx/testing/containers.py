"""The containers of a fake daemon."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from airflow_torchx.errors import EngineConflictError, EngineError, EngineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_torchx.core.engine.containers import ContainerEvent
    from airflow_torchx.testing.container import FakeContainer

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


class FakeContainers:
    """Containers with unique names, the newest first. Not thread-safe."""

    def __init__(self) -> None:
        self._by_id: dict[str, FakeContainer] = {}
        #: Their events in order, including those of containers without an app.
        self.journal: list[ContainerEvent] = []

    def __iter__(self) -> Iterator[FakeContainer]:
        return reversed(self._by_id.values())

    def settle(self, now_ns: int) -> None:
        """Perform what is due at this time, and record its events."""
        events: list[ContainerEvent] = []
        for container in self:
            container.settle(now_ns)
            events.extend(container.new_events(now_ns))
        self.journal += sorted(events, key=lambda event: event.time_ns)

    def find(self, ref: str) -> FakeContainer | None:
        """Return the newest container with this id, name or ``role/replica``; None if none has."""
        exact = self._by_id.get(ref)
        found = (container for container in self if ref in (container.name, container.role_replica))
        return exact or next(found, None)

    def get(self, ref: str) -> FakeContainer:
        """Return a container.

        Raises:
            EngineNotFoundError: it does not exist.
        """
        found = self.find(ref)
        if found is None:
            what = f"no such container: {ref[:12]}."
            raise EngineNotFoundError(what, fix="It may have been removed.", status=404)
        return found

    def labelled(self, labels: Mapping[str, str | None]) -> Iterator[FakeContainer]:
        """Yield the containers with all these labels; None matches any value."""
        for container in self:
            own = container.labels
            if all(key in own and value in (None, own[key]) for key, value in labels.items()):
                yield container

    def add(self, container: FakeContainer) -> None:
        """Add a container.

        Raises:
            EngineError: its name is in use, or is invalid.
        """
        self._check_name(container.name)
        self._by_id[container.id] = container

    def rename(self, ref: str, name: str) -> FakeContainer:
        """Rename a container and return it.

        Raises:
            EngineError: it does not exist, or the name is in use or invalid.
        """
        container = self.get(ref)
        if name != container.name:
            self._check_name(name)
            container.name = name
        return container

    def remove(self, container: FakeContainer, now_ns: int) -> None:
        """Remove a container, and record the event."""
        del self._by_id[container.id]
        self.journal.append(container.event("destroy", now_ns))

    def _check_name(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            what = f"invalid container name {name!r}."
            raise EngineError(what, fix=f"Names look like {_NAME.pattern}.", status=400)
        if any(container.name == name for container in self):
            what = f"the container name {name!r} is already in use."
            raise EngineConflictError(what, fix="Remove the container that has it.", status=409)
