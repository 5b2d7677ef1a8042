"""Whether a daemon is a manager of a swarm, by what `docker info` says of it; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    Json = Mapping[str, Any]

_JOIN: Final = "or join it to another one: `docker swarm join-token manager` there prints how"


class Refusal(NamedTuple):
    """Why a daemon cannot be asked for its swarm, and what to do."""

    what: str
    fix: str


def why_not_manager(info: Json, url: str) -> Refusal | None:
    """Return why the daemon with this ``GET /info`` is not a manager; None if it is one."""
    swarm = info.get("Swarm") or {}
    state = swarm.get("LocalNodeState") or "inactive"
    where = f"the daemon at {url}"
    if swarm.get("ControlAvailable"):
        return None
    match state:
        case "active":
            return Refusal(f"{where} is a worker of a swarm, not a manager.", _by_managers(swarm))
        case "locked":
            fix = "Run `docker swarm unlock` there."
            return Refusal(f"{where} is in a swarm that is locked.", fix)
        case "inactive":
            fix = f"Run `docker swarm init` there, {_JOIN}."
            return Refusal(f"{where} is not in a swarm.", fix)
        case _:
            why = f": {str(swarm['Error']).rstrip('.')}." if swarm.get("Error") else "."
            fix = "See `docker info` and the log of its daemon."
            return Refusal(f"{where} has not joined its swarm (state {state}){why}", fix)


def _by_managers(swarm: Json) -> str:
    """Return what to do on a worker; it knows the address of each manager."""
    known = [str(one.get("Addr") or "") for one in swarm.get("RemoteManagers") or ()]
    hosts = sorted({address.rpartition(":")[0] for address in known if address})
    named = f": the managers are {', '.join(hosts)}" if hosts else ""
    return f"Give the URL of a manager{named}. Or run `docker node promote` on one of them."
