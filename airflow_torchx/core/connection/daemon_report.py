"""The report of a connection test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine.amounts import counted
from airflow_torchx.specs.handle import SWARM_SCHEDULER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.core.engine.containers import EngineInfo

_GIB: Final = 1 << 30
_GPU_RUNTIME: Final = "nvidia"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoginCheck:
    """The result of a login to a registry; an error also says what to do."""

    registry: str
    username: str
    error: str | None = None

    def __str__(self) -> str:
        attempt = f"Login to {self.registry} as {self.username!r}"
        return f"{attempt} {f'failed: {self.error}' if self.error else 'succeeded.'}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DaemonReport:
    """The result of a connection test, with the network that apps join and all logins."""

    info: EngineInfo
    network: str
    has_network: bool
    logins: tuple[LoginCheck, ...] = ()

    @property
    def is_fine(self) -> bool:
        """Whether every login succeeded."""
        return all(login.error is None for login in self.logins)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        info = self.info
        yield (
            f"Docker {info.version} (API {info.api_version}) on {info.os} at {info.url}: "
            f"{info.cpus} CPUs, {info.memory_bytes / _GIB:.1f} GiB of memory, {_gpus(info)}."
        )
        if not self.network.startswith("container:"):
            state = "exists" if self.has_network else "will be created by the first launch"
            yield f"Network {self.network!r} {state}."
        if not info.is_local:
            yield "The files of its host are not visible here: sources of mounts are not checked."
        if info.swarm_nodes:
            yield (
                f"It is a manager of a Docker Swarm of {counted(info.swarm_nodes, 'node')}: "
                f'"scheduler": "{SWARM_SCHEDULER}" in the extra runs replicas on all of them.'
            )
        yield from map(str, self.logins)


def _gpus(info: EngineInfo) -> str:
    runtime = "GPU runtime nvidia" if _GPU_RUNTIME in info.runtimes else "no GPU runtime"
    return f"{runtime}, GPUs {', '.join(info.gpu_ids)}" if info.gpu_ids else runtime
