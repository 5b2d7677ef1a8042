"""The events of a swarm's containers, which lists of tasks show."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import cancelled_name
from airflow_torchx.core.swarm.changes import changes
from airflow_torchx.core.swarm.service_spec import NOWHERE
from airflow_torchx.core.swarm.tasks import replicas

Json = dict[str, Any]

COUNT: Final = 1_000


def _task(index: int, state: str, *, substitute: bool = False) -> Json:
    """Return a task as a manager whose clock is years behind has it."""
    name = f"app-r-{index}"
    own = {labels.APP_ID: "app", labels.REPLICA_ID: f"{index}", labels.SWARM_NAME: name}
    mark = {labels.SWARM_MARK: cancelled_name(name)} if substitute else {}
    status: Json = {"State": state}
    if state == "complete":
        status["ContainerStatus"] = {"ContainerID": "c", "ExitCode": 0}
    return {
        "ID": f"{index}-{substitute}",
        "ServiceID": f"s{index}",
        "NodeID": "" if substitute else "n",
        "CreatedAt": f"2001-01-01T00:00:0{int(substitute)}Z",
        "Status": status,
        "DesiredState": "running" if state == "running" else "shutdown",
        "Spec": {
            "ContainerSpec": {"Labels": own | mark},
            "Placement": {"Constraints": [NOWHERE] if substitute else []},
        },
    }


def test_many_replicas_end_at_once() -> None:
    """Each of 1,000 replicas that a client has cancelled is renamed once, and has ended once.

    The tasks that stand in for them, and never get a node, are no containers of their own.
    """
    before = [_task(index, "running") for index in range(COUNT)]
    after = [_task(index, "complete") for index in range(COUNT)]
    after += [_task(index, "new", substitute=True) for index in range(COUNT)]
    was, now = ({one.service_id: one for one in replicas(tasks)} for tasks in (before, after))

    seen = list(changes(was, now, 1))

    assert {"rename": COUNT, "die": COUNT} == Counter(one.action for one in seen)
    died = [one for one in seen if one.action == "die"]
    assert {f"s{index}" for index in range(COUNT)} == {one.container_id for one in died}
    assert {(0, cancelled_name("app-r-7"))} == {
        (one.exit_code, one.name) for one in died if one.container_id == "s7"
    }
