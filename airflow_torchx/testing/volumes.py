"""The named volumes of a fake daemon."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_torchx.core.engine.containers import VolumeRow
from airflow_torchx.specs import VolumeMount

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from airflow_torchx.core.engine.containers import ContainerSpec


@dataclass
class FakeVolumes:
    """Volumes by name, without their files. Not thread-safe."""

    rows: dict[str, VolumeRow] = field(default_factory=dict)

    def create_for(self, spec: ContainerSpec, created_at: datetime) -> None:
        """Add the volumes that a container mounts, unless they exist."""
        for name in _mounted(spec):
            labels = spec.volume_labels.get(name, {})
            self.rows.setdefault(name, VolumeRow(name=name, labels=labels, created_at=created_at))

    def unused(
        self, labels: Mapping[str, str | None], specs: Iterable[ContainerSpec]
    ) -> tuple[VolumeRow, ...]:
        """Return the volumes with all these labels that no container of ``specs`` mounts."""
        used = {name for spec in specs for name in _mounted(spec)}
        return tuple(
            row
            for row in self.rows.values()
            if row.name not in used
            and all(
                key in row.labels and value in (None, row.labels[key])
                for key, value in labels.items()
            )
        )

    def remove(self, name: str, specs: Iterable[ContainerSpec]) -> bool:
        """Remove a volume, and return whether it existed and no container mounts it."""
        if any(name in _mounted(spec) for spec in specs):
            return False
        return self.rows.pop(name, None) is not None


def _mounted(spec: ContainerSpec) -> list[str]:
    return [mount.src for mount in spec.mounts if isinstance(mount, VolumeMount)]
