"""What the command gpus shows of a swarm, which gives each GPU to one replica by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_torchx.cli.gpu_table import gpu_entry, gpu_table, waiting_entry
from airflow_torchx.core.engine.labels import APP_ID, printable
from airflow_torchx.core.gpu.report import GpuUse, WaitingApp, task_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

    from airflow_torchx.core.engine.containers import EngineInfo
    from airflow_torchx.core.swarm.gpus import NodeGpu, SwarmGpus
    from airflow_torchx.errors import Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class SwarmGpuListing:
    """The GPUs of a swarm at one moment; it has the properties of `GpuListing`."""

    info: EngineInfo
    found: SwarmGpus
    kind: str

    @property
    def problems(self) -> Sequence[Problem]:
        """Nothing: a connection selects no GPUs of a swarm."""
        return ()

    @property
    def warnings(self) -> Iterator[str]:
        """Nothing: a swarm gives no GPU to two replicas."""
        yield from ()

    @property
    def messages(self) -> Iterator[str]:
        """What the table does not show."""
        if not self.found.gpus:
            yield f"no node of this swarm has the generic resource {self.kind!r}"
            fix = f'"node-generic-resources": ["{self.kind}=GPU-…"]'
            yield f"name the GPUs of each node in its daemon.json: {fix}"

    def table(self, stream: TextIO) -> str:
        """Return the GPUs with their nodes, and the apps that wait; empty if there are none."""
        now = self.info.system_time or datetime.now(UTC)
        return gpu_table(self._uses(), self._waiting(), now, stream)

    def to_json(self) -> dict[str, Any]:
        """Return the output of ``gpus --json``, which has the keys of one daemon."""
        return {
            "host": self.info.host,
            "url": self.info.url,
            "ids_known": all(one.id for one in self.found.gpus),
            "gpus": [gpu_entry(host, use) for host, use in self._uses()],
            "waiting": [waiting_entry(one) for one in self._waiting()],
            "requested_all": [],
            "unlisted": [],
        }

    def _uses(self) -> list[tuple[str, GpuUse]]:
        return [(one.node, _use(one)) for one in self.found.gpus]

    def _waiting(self) -> list[WaitingApp]:
        return [
            WaitingApp(
                app_id=printable(one.app_id),
                gpus=one.count,
                since=one.since,
                **task_of(one.labels),
            )
            for one in self.found.waiting
        ]


def _use(one: NodeGpu) -> GpuUse:
    if not one.holder:
        return GpuUse(id=one.id, state="free" if one.is_usable else "unavailable")
    return GpuUse(
        id=one.id,
        state="held",
        app_id=printable(one.labels.get(APP_ID, "")),
        container=printable(one.holder),
        since=one.since,
        **task_of(one.labels),
    )
