"""Apps that the tests of the Airflow face launch."""

from __future__ import annotations

from typing import Final

from airflow_torchx.specs import AppDef, Resource, Role
from tests.conftest import BUSYBOX

#: Until somebody stops it: a shell ends at SIGTERM only if it is told to.
FOREVER: Final = "trap 'exit 143' TERM; sleep 600 & wait"
#: Until somebody kills it.
DEAF: Final = "trap '' TERM; while true; do sleep 1; done"


def shell(script: str, *, replicas: int = 2, env: dict[str, str] | None = None) -> AppDef:
    """Return an app whose replicas run a shell script; ``${replica_id}`` in it is the replica."""
    role = Role(
        name="worker",
        image=BUSYBOX,
        entrypoint="sh",
        args=["-c", script],
        env=env or {},
        num_replicas=replicas,
        resource=Resource(cpu=0, gpu=0, memMB=64),
    )
    return AppDef(name="app", roles=[role])
