"""What a test of a connection tells; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.core.engine.containers import EngineInfo

_GIB: Final = 1 << 30
_GPU_RUNTIME: Final = "nvidia"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoginCheck:
    """Whether a registry takes a login.

    Args:
        registry: its host.
        username: who logs in.
        why: why it does not, and what to do; None if it does.
    """

    registry: str
    username: str
    why: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What was found on a daemon.

    Args:
        info: what it says about itself.
        network: the network that apps join.
        has_network: whether it is there.
        logins: of registries.
    """

    info: EngineInfo
    network: str
    has_network: bool
    logins: tuple[LoginCheck, ...] = ()

    @property
    def is_fine(self) -> bool:
        """Tell whether apps can run, as far as this shows."""
        return all(login.why is None for login in self.logins)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        info = self.info
        yield (
            f"Docker {info.version} (API {info.api_version}) on {info.os} at {info.url}: "
            f"{info.cpus} cpus, {info.memory_bytes / _GIB:.1f} GiB of memory, {_gpus(info)}."
        )
        if not self.network.startswith("container:"):
            there = "there" if self.has_network else "not there yet: the first launch makes it"
            yield f"Network {self.network!r} is {there}."
        for login in self.logins:
            who = f"Registry {login.registry}"
            if login.why is None:
                yield f"{who} takes the login of {login.username!r}."
            else:
                yield f"{who} does not take the login of {login.username!r}: {login.why}"


def _gpus(info: EngineInfo) -> str:
    runtime = "GPU runtime nvidia" if _GPU_RUNTIME in info.runtimes else "no GPU runtime"
    return f"{runtime}, GPUs {', '.join(info.gpu_ids)}" if info.gpu_ids else runtime
