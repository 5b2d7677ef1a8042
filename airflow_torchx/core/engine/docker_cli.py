"""Commands of Docker's own command line that messages advise, for a daemon and for a swarm."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class DockerCli:
    """What a message calls an engine, and commands of `docker` that work on its replicas.

    Args:
        engine: this engine, in a sentence.
        logs: prints the log of a replica, named after it.
        remove: removes replicas, named after it.
        ids: prints ids of replicas; filters follow.
    """

    engine: str
    logs: str
    remove: str
    ids: str

    def remove_labeled(self, wanted: Mapping[str, str]) -> str:
        """Return a command that removes all replicas with these labels."""
        filters = [f"--filter label={shlex.quote(f'{key}={wanted[key]}')}" for key in wanted]
        return f"{self.remove} $({self.ids} {' '.join(filters)})"


_ON_DAEMON: Final = DockerCli("this daemon", "docker logs", "docker rm -f", "docker ps -aq")
_ON_SWARM: Final = DockerCli(
    "this swarm", "docker service logs", "docker service rm", "docker service ls -q"
)


def docker_cli(*, is_swarm: bool) -> DockerCli:
    """Return the commands for a swarm, whose replicas are services, or for one daemon."""
    return _ON_SWARM if is_swarm else _ON_DAEMON
