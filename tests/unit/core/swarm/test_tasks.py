"""Tests of what the tasks of a swarm say of containers."""

from __future__ import annotations

from itertools import permutations
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerSpec
from airflow_torchx.core.plan.identity import cancelled_name, failed_name, is_marked
from airflow_torchx.core.state.describe import SWARM, describe, exit_code, replica_state
from airflow_torchx.core.swarm.service_spec import (
    NOWHERE,
    service_json,
    started,
    stopped,
    unstarted,
    waiting,
)
from airflow_torchx.core.swarm.tasks import Replica, is_complete, replicas
from airflow_torchx.specs import AppState

Json = dict[str, Any]

NAME: Final = "train-x1-trainer-0"
LABELS: Final = {
    labels.APP_ID: "train-x1",
    labels.ROLE_NAME: "trainer",
    labels.REPLICA_ID: "0",
    labels.ROLES: '{"trainer": 1}',
}
AT: Final = "2026-11-30T12:00:10+00:00"
NO_NODE: Final = "no suitable node (insufficient resources on 3 nodes)"
#: State, desired state and exit code of a task, and the state of the replica: as it is, and once a
#: client of ours has cancelled it.
STATES: Final = [
    ("new", "running", None, AppState.SUBMITTED, AppState.CANCELLED),
    ("allocated", "running", None, AppState.SUBMITTED, AppState.CANCELLED),
    ("pending", "running", None, AppState.SUBMITTED, AppState.CANCELLED),
    ("assigned", "running", None, AppState.PENDING, AppState.PENDING),
    ("accepted", "running", None, AppState.PENDING, AppState.PENDING),
    ("preparing", "running", None, AppState.PENDING, AppState.PENDING),
    ("ready", "running", None, AppState.PENDING, AppState.PENDING),
    ("starting", "running", None, AppState.PENDING, AppState.PENDING),
    ("running", "running", -1, AppState.RUNNING, AppState.RUNNING),
    ("preparing", "shutdown", None, AppState.FAILED, AppState.RUNNING),
    ("running", "shutdown", -1, AppState.FAILED, AppState.RUNNING),
    ("running", "remove", -1, AppState.FAILED, AppState.RUNNING),
    ("complete", "shutdown", 0, AppState.SUCCEEDED, AppState.CANCELLED),
    ("failed", "shutdown", 3, AppState.FAILED, AppState.CANCELLED),
    ("rejected", "shutdown", None, AppState.FAILED, AppState.CANCELLED),
    ("shutdown", "shutdown", 0, AppState.FAILED, AppState.CANCELLED),
    ("orphaned", "shutdown", -1, AppState.FAILED, AppState.CANCELLED),
    ("remove", "remove", -1, AppState.PENDING, AppState.PENDING),
]


def _service(name: str = NAME, index: int = 0) -> Json:
    spec = ContainerSpec(
        role="trainer",
        replica=index,
        name=name,
        image="registry/train:1@sha256:00",
        entrypoint="true",
        args=(),
        env={},
        labels={**LABELS, labels.REPLICA_ID: str(index)},
        network="torchx-swarm",
    )
    return {
        "ID": f"service{index}",
        "Spec": started(service_json(spec, Swarm())),
        "CreatedAt": "2026-11-30T12:00:00.123456789Z",
    }


def _task(service: Json, state: str, desired: str, code: int | None = None, err: str = "") -> Json:
    status: Json = {"State": state, "Timestamp": "2026-11-30T12:00:09.5Z"}
    if err:
        status["Err"] = err
    if code is not None:
        status["ContainerStatus"] = {"ContainerID": "c0", "ExitCode": code}
    placed = {} if state in {"new", "allocated", "pending"} else {"NodeID": "node1"}
    return {
        "ID": f"{service['ID']}-{state}",
        "ServiceID": service["ID"],
        "CreatedAt": "2026-11-30T12:00:01Z",
        "Spec": service["Spec"]["TaskTemplate"],
        "Status": status,
        "DesiredState": desired,
        **placed,
    }


def _substitute(service: Json, name: str) -> Json:
    """Return the task that is in place of one that was stopped."""
    ended = {**service, "Spec": stopped(service["Spec"], name)}
    return _task(ended, "pending", "running", err="no suitable node (scheduling constraints)")


def _only(tasks: list[Json], services: list[Json] | None = None, **more: Any) -> Replica:  # noqa: ANN401
    (found,) = replicas(tasks, services or (), **more)
    return found


def _state(one: Replica) -> AppState:
    row = one.row()
    return replica_state(row, exit_code(row))


@pytest.mark.parametrize(("state", "desired", "code", "expected", "cancelled"), STATES)
def test_states(
    state: str, desired: str, code: int | None, expected: AppState, cancelled: AppState
) -> None:
    """Each state of a task is one of a replica; one that we have asked to end was cancelled."""
    service = _service()
    task = _task(service, state, desired, code)

    assert expected is _state(_only([task]))
    assert cancelled is _state(_only([task, _substitute(service, cancelled_name(NAME))]))


def test_an_unknown_state() -> None:
    """A state that this version does not know is looked at again, unless the task is to end."""
    assert AppState.UNKNOWN is _state(_only([_task(_service(), "hibernated", "running")]))
    assert AppState.FAILED is _state(_only([_task(_service(), "hibernated", "shutdown")]))


@pytest.mark.parametrize("state", ["starting", "running", "complete", "shutdown"])
def test_one_that_is_taken_back_is_not_lost(state: str) -> None:
    """While its task still ends, it waits to be started with all of its app."""
    service = _service()
    ending = _task(service, state, "remove", 0)
    back = {**service, "Spec": waiting(unstarted(service["Spec"], f"1 {AT}"), "no room")}

    found = _only([ending], [back])

    assert (AppState.PENDING, False) == (_state(found), found.is_lost)
    again = {**back, "Spec": started(back["Spec"])}
    running = _task(again, "running", "running", -1) | {"CreatedAt": "2026-11-30T12:00:20Z"}
    assert AppState.RUNNING is _state(_only([ending, running], [again]))


def test_a_failure_with_exit_code_0() -> None:
    """A swarm that ends a replica for its health has failed it, also if its program ends well."""
    failed = _only([_task(_service(), "failed", "shutdown", 0, "task: unhealthy container")])

    assert AppState.FAILED is _state(failed)
    assert "task: unhealthy container" == failed.detail().error


_WORDS: Final = (
    *("new", "pending", "allocated", "assigned", "accepted", "preparing", "ready", "starting"),
    *("running", "complete", "failed", "rejected", "shutdown", "orphaned", "remove", "", "other"),
)
_CONTAINERS: Final[st.SearchStrategy[Json]] = st.fixed_dictionaries(
    {},
    optional={
        "ContainerID": st.sampled_from(["c0", "", None]),
        "ExitCode": st.sampled_from([0, 1, -1, 137, None]),
    },
)
_SPECS: Final[st.SearchStrategy[Json]] = st.fixed_dictionaries(
    {},
    optional={
        "Placement": st.sampled_from([None, {}, {"Constraints": [NOWHERE]}]),
        "ContainerSpec": st.sampled_from(
            [
                None,
                {},
                {"Image": "train@sha256:00", "Labels": {**LABELS, labels.SWARM_NAME: NAME}},
                {"Labels": {labels.SWARM_MARK: cancelled_name(NAME)}},
                {"Labels": {labels.SWARM_MARK: failed_name(NAME)}},
            ]
        ),
    },
)
_TASKS: Final[st.SearchStrategy[list[Json]]] = st.lists(
    st.fixed_dictionaries(
        {"ID": st.uuids().map(str)},
        optional={
            "ServiceID": st.sampled_from(["service0", "service1", None]),
            "NodeID": st.sampled_from(["node1", "", None]),
            "DesiredState": st.sampled_from(["running", "shutdown", "remove", "other", None]),
            "CreatedAt": st.sampled_from(["2026-11-30T12:00:01Z", "2026-11-30T12:00:02Z", None]),
            "Spec": st.none() | _SPECS,
            "Status": st.none()
            | st.fixed_dictionaries(
                {},
                optional={
                    "State": st.sampled_from(_WORDS),
                    "Err": st.sampled_from([NO_NODE, "", None]),
                    "Timestamp": st.sampled_from(["2026-11-30T12:00:09.5Z", "", None]),
                    "ContainerStatus": st.none() | _CONTAINERS,
                },
            ),
        },
    ),
    max_size=4,
    unique_by=lambda one: str(one["ID"]),
)


@given(tasks=_TASKS, is_down=st.booleans(), data=st.data())
def test_any_tasks(tasks: list[Json], is_down: bool, data: st.DataObject) -> None:
    """Each list of tasks is replicas, in any order, and only what is complete has succeeded."""
    down = {"node1"} if is_down else set()
    shuffled = data.draw(st.permutations(tasks))

    found = replicas(tasks, [_service()], down)

    assert found == replicas(shuffled, [_service()], down)
    for one in found:
        one.detail("box1")
        if _state(one) is AppState.SUCCEEDED:
            assert one.task is not None
            assert "complete" == one.task["Status"]["State"]
            assert not one.is_lost
            assert not is_marked(one.name)


def test_it_waits_for_a_node() -> None:
    """A task without a node is PENDING once the swarm says why."""
    waiting = _only([_task(_service(), "pending", "running", err=NO_NODE)])

    assert AppState.PENDING is _state(waiting)
    assert NO_NODE == waiting.waits_because


def test_before_its_start_it_has_no_task() -> None:
    """A service that was created is SUBMITTED, with its name and its labels."""
    service = _service()

    found = _only([], [service])

    assert AppState.SUBMITTED is _state(found)
    assert (NAME, "registry/train:1") == (found.row().name, found.row().image)
    assert LABELS.items() <= found.row().labels.items()


def test_exit_code_and_error_of_the_program() -> None:
    """What the swarm says of an exit code is not repeated as an error; a rejection is one."""
    service = _service()

    failed = _only([_task(service, "failed", "shutdown", 3, "task: non-zero exit (3)")])
    rejected = _only([_task(service, "rejected", "shutdown", err="No such image: x")])

    assert (3, "", "Exited (3)") == (failed.exit_code, failed.detail().error, failed.row().status)
    assert (None, "No such image: x") == (rejected.exit_code, rejected.detail().error)
    assert failed.detail().finished_at is not None


def test_a_lost_replica() -> None:
    """It names its node; the record stays when the node returns and the program ends with 0."""
    service = _service()
    lost = _only([_task(service, "running", "shutdown", -1)])
    record = _substitute(service, failed_name(NAME))

    returned = _only([_task(service, "complete", "shutdown", 0), record])

    assert lost.is_lost
    assert "node box3 is lost; the replica may still run there until it returns" == (
        lost.detail("box3").error
    )
    assert not returned.is_lost
    assert AppState.FAILED is _state(returned)
    assert returned.exit_code is None
    assert returned.detail("box3").error.startswith("node box3 was lost")


@pytest.mark.parametrize("state", ["running", "shutdown"])
def test_a_stop_that_no_task_shows_yet(state: str) -> None:
    """A replica that a client stops is not lost or evicted: its service says so at once."""
    service = _service()
    task = _task(service, state, "shutdown", 143)
    ended = {**service, "Spec": stopped(service["Spec"], cancelled_name(NAME))}

    found = _only([task], [ended])

    assert not found.is_lost
    expected = AppState.RUNNING if state == "running" else AppState.CANCELLED
    assert expected is _state(found)


def test_an_evicted_replica() -> None:
    """One that a drained node has stopped failed, although its program ended with 0."""
    found = _only([_task(_service(), "shutdown", "shutdown", 0)])

    assert AppState.FAILED is _state(found)
    assert "drained" in found.detail("box2").error


def test_a_cancelled_one_on_a_lost_node_has_ended() -> None:
    """Its node will stop it; no client waits for a node that is away."""
    service = _service()
    tasks = [_task(service, "running", "shutdown", -1), _substitute(service, cancelled_name(NAME))]

    assert AppState.RUNNING is _state(_only(tasks))
    assert AppState.CANCELLED is _state(_only(tasks, down={"node1"}))


def test_the_order_of_tasks_does_not_matter() -> None:
    """Any order of the same tasks gives the same replicas."""
    services = [_service(f"train-x1-trainer-{index}", index) for index in range(4)]
    tasks = [_task(one, "running", "running", -1) for one in services[:3]]
    tasks += [_substitute(services[0], cancelled_name("train-x1-trainer-0"))]
    expected = [one.row() for one in replicas(tasks, services)]

    for shuffled in permutations(tasks):
        assert expected == [one.row() for one in replicas(shuffled, reversed(services))]


def test_whether_services_add_anything() -> None:
    """The tasks are enough once each replica in the labels has one, unless rounds may be made."""
    service = _service()
    found = replicas([_task(service, "running", "running", -1)])

    assert is_complete(found)
    assert not is_complete([])
    container = service["Spec"]["TaskTemplate"]["ContainerSpec"]
    container["Labels"] = {**container["Labels"], labels.ROLES: '{"trainer": 2}'}
    assert not is_complete(replicas([_task(service, "running", "running", -1)]))
    container["Labels"] = {
        **container["Labels"],
        labels.ROLES: '{"trainer": 1}',
        labels.RETRIES: "{}",
    }
    assert not is_complete(replicas([_task(service, "running", "running", -1)]))


def test_rows_describe_an_app() -> None:
    """The rows of a swarm are read as those of a daemon."""
    rows = [_only([_task(_service(), "running", "running", -1)]).row()]

    app = describe("train-x1", rows, {})

    assert app is not None
    assert AppState.RUNNING is app.state
    assert NAME == app.roles_statuses[0].replicas[0].hostname
    # Its owner places it while it waits, and a prune spares it.
    assert SWARM in app.metadata
