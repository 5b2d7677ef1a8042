"""An asset watcher and a hook on a swarm, by a connection."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.hooks import TorchXDockerHook
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.specs import AppDef, Role
from tests.airflow.test_trigger import Store, eventually, trigger
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from tests.swarm.hosts import Hosts

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

CONN_ID = "gpu_cluster"


@pytest.fixture
def connection(hosts: Hosts, scheduler: SwarmScheduler, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the id of a connection of the swarm."""
    assert scheduler.engine.info().is_swarm
    given = {
        "conn_type": "torchx_docker",
        "host": hosts[1].url,
        "extra": {"scheduler": "docker_swarm"},
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(given))
    return CONN_ID


def test_an_app_from_its_launch_to_its_event(connection: str, app_id: str) -> None:
    """A hook launches an app, the watcher of an asset reports its end, and a prune removes it."""
    role = Role("sh", BUSYBOX, entrypoint="sleep", args=["1"], num_replicas=2)
    with TorchXDockerHook(connection).get_conn() as scheduler:
        assert isinstance(scheduler, SwarmScheduler)
        launched, event = asyncio.run(_watched(scheduler, AppDef(app_id, [role]), connection))
        hook = TorchXDockerHook(connection)
        found = hook.prune(timedelta(0), dry_run=True)["found"]

        assert {"app_id": launched, "state": "SUCCEEDED"} == {
            key: event[key] for key in ("app_id", "state")
        }
        assert launched in [one["name"] for one in found]
        assert 2 == len(scheduler.engine.rows({labels.APP_ID: launched}))


async def _watched(
    scheduler: SwarmScheduler, app: AppDef, conn_id: str
) -> tuple[str, dict[str, Any]]:
    """Launch an app while a watcher waits for apps of its name; return its id and the event."""
    store = Store()
    waiting = trigger(app_name=app.name, torchx_conn_id=conn_id)
    waiting.asset_state_store = store  # type: ignore[assignment]
    events = waiting.run()
    coming = asyncio.ensure_future(anext(events))
    await eventually(lambda: store.kept)
    launched = await asyncio.to_thread(scheduler.submit, app, {"stop_grace_s": 0})
    event = await coming
    await events.aclose()  # type: ignore[attr-defined]
    await waiting.cleanup()
    return launched, event.payload
