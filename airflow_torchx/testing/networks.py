"""The networks of a fake daemon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine.containers import NetworkRow
from airflow_torchx.errors import EngineConflictError, EngineError, EngineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

_BUILT_IN: Final = ("bridge", "host", "none")
_FIX: Final = "Create the network first."


@dataclass
class FakeNetworks:
    """Networks by id. Not thread-safe."""

    rows: dict[str, NetworkRow]

    @classmethod
    def built_in(cls, created_at: datetime) -> FakeNetworks:
        """Return the networks that every daemon has."""
        rows = (
            NetworkRow(id=name.ljust(64, "0"), name=name, created_at=created_at)
            for name in _BUILT_IN
        )
        return cls({row.id: row for row in rows})

    def named(self, name: str) -> tuple[NetworkRow, ...]:
        """Return the networks with this name."""
        return tuple(row for row in self.rows.values() if row.name == name)

    def create(self, row: NetworkRow, *, unique: bool) -> None:
        """Add a network.

        Raises:
            EngineConflictError: the name is in use, and names must be unique.
        """
        if unique and self.named(row.name):
            what = f"cannot create network {row.name}: the name is already in use."
            raise EngineConflictError(what, fix="Use the existing network.", status=409)
        self.rows[row.id] = row

    def remove(self, network_id: str, used: Iterable[str]) -> None:
        """Remove a network, unless a running container uses it."""
        row = self.rows.get(network_id)
        if row is not None and {row.id, row.name} & set(used):
            what = f"cannot remove network {row.name}: it has active endpoints."
            raise EngineError(what, fix="Stop its containers first.", status=403)
        self.rows.pop(network_id, None)

    def attach(self, network: str) -> None:
        """Check that a container can join the network with this name or id.

        Raises:
            EngineNotFoundError: the network does not exist.
            EngineError: the name is ambiguous.
        """
        if network in self.rows or network == "default" or network.startswith("container:"):
            return
        found = self.named(network)
        if not found:
            raise EngineNotFoundError(f"network {network} not found.", fix=_FIX, status=404)
        if len(found) > 1:
            what = f"network {network} is ambiguous ({len(found)} matches found on name)."
            raise EngineError(what, fix="Remove all but one of them.", status=400)
