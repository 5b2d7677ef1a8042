"""What a manager lists, by app."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow_torchx.core.engine import labels
from airflow_torchx.core.swarm.lists import Lists
from tests.unit.core.swarm.swarm_json import node, task

NOW = datetime(2026, 8, 1, tzinfo=UTC)


def _service(service_id: str, app_id: str, **more: str) -> dict[str, Any]:
    return {"ID": service_id, "Spec": {"Labels": {labels.APP_ID: app_id, **more}}}


def test_each_app_has_what_starts_together() -> None:
    """These are the services of its newest round and their tasks; room is free for all apps."""
    named = {labels.SWARM_NAME: "name"}
    found = Lists.of(
        services=[
            _service("s1", "a", **named),
            _service("s2", "a", **named, **{labels.ROUND: "1"}),
            _service("s3", "b", **named),
        ],
        tasks=[{**task("x", cpus=1), "ServiceID": f"s{number}"} for number in (1, 2, 3)],
        nodes=[node("x", cpus=4)],
        now=NOW,
    )

    gang = found.gang("a")

    assert ["s2"] == [one["ID"] for one in gang.services]
    assert ["s2"] == [one["ServiceID"] for one in gang.tasks]
    assert [10**9] == [room.free.nano_cpus for room in gang.free]
    assert NOW == gang.now
    assert gang.free is found.gang("b").free


def test_services_of_other_programs_are_of_no_app() -> None:
    """One with the id of an app, and without the name of a container, is never started."""
    found = Lists.of(services=[_service("s1", "a")], tasks=[], nodes=[], now=NOW)

    assert [] == [*found.gang("a").services]
    assert "" == found.gang("a").app_id
