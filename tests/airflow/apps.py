"""Apps that the tests of the Airflow face launch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.engine.containers import LogQuery
from airflow_torchx.specs import AppDef, BindMount, Resource, Role
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_torchx.core.engine.protocol import Engine

#: Runs until it is stopped: a shell ends on SIGTERM only with a trap.
FOREVER: Final = "trap 'exit 143' TERM; sleep 600 & wait"
#: The same, and then it has succeeded.
OBEDIENT: Final = "trap 'exit 0' TERM; sleep 600 & wait"
#: Runs until it is killed.
DEAF: Final = "trap '' TERM; while true; do sleep 1; done"

#: Runs a test with a task that waits in its worker, and with one that waits in the triggerer.
both_modes = pytest.mark.parametrize(
    "one_task", [False, True], ids=["waits", "defers"], indirect=True
)


def shell(
    script: str,
    *,
    replicas: int = 2,
    env: dict[str, str] | None = None,
    mount: Path | None = None,
) -> AppDef:
    """Return an app whose replicas run a shell script; ``${replica_id}`` in it is the replica.

    ``mount`` is a folder that they see under its own path.
    """
    mounts = [BindMount(str(mount), str(mount))] if mount else []
    role = Role(
        name="worker",
        image=BUSYBOX,
        entrypoint="sh",
        args=["-c", script],
        env=env or {},
        num_replicas=replicas,
        mounts=mounts,
        resource=Resource(cpu=0, gpu=0, memMB=64),
    )
    return AppDef(name="app", roles=[role])


def up(engine: Engine, wanted: Mapping[str, str | None]) -> list[bool]:
    """Return of each container whether its program has said that it handles signals.

    Engine 20.10 lists a container some time before it finds it by its id.
    """
    return [
        row.state == "running" and b"up" in b"".join(engine.logs(row.id, LogQuery()))
        for row in engine.rows(wanted)
    ]
