"""Tests of the events that a trigger fires."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_torchx.core.state.condition import Condition
from airflow_torchx.core.state.describe import FAILURE_POLICY, Fail, app_state
from airflow_torchx.core.state.trigger_event import WaitFor, make_event, trigger_event
from airflow_torchx.specs import AppState, DescribeAppResponse, ReplicaStatus, Role, RoleStatus

END = WaitFor()
SUCCESS = WaitFor(condition=Condition.parse("SUCCEEDED", "FAILED,CANCELLED"))


def app(*names: str, policy: str = "fail_fast") -> DescribeAppResponse:
    """Return an app of one role whose replicas have these states."""
    replicas = [
        ReplicaStatus(
            id=index,
            role="trainer",
            state=AppState[name],
            hostname=f"h{index}",
            exit_code={"FAILED": 7, "SUCCEEDED": 0}.get(name),
        )
        for index, name in enumerate(names)
    ]
    return DescribeAppResponse(
        app_id="a",
        state=app_state(replica.state for replica in replicas),
        metadata={FAILURE_POLICY: policy},
        roles_statuses=[RoleStatus("trainer", replicas)],
        roles=[Role("trainer", "i", num_replicas=len(replicas))],
    )


def reason(found: Any) -> tuple[str, str | None] | None:  # noqa: ANN401 - a trigger event
    """Return reason and state of an event."""
    return None if found is None else (found["reason"], found["state"])


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("SUCCEEDED", "SUCCEEDED"), ("reached", "SUCCEEDED")),
        (("SUCCEEDED", "FAILED"), ("reached", "FAILED")),
        (("CANCELLED", "FAILED"), ("reached", "FAILED")),
        (("CANCELLED", "SUCCEEDED"), ("reached", "CANCELLED")),
        (("RUNNING", "SUCCEEDED"), None),
        (("SUBMITTED",), None),
    ],
)
def test_the_end_of_every_replica(
    states: tuple[str, ...], expected: tuple[str, str] | None
) -> None:
    """Without a condition, the trigger fires when every replica has ended."""
    assert expected == reason(trigger_event("a", app(*states), END))


def test_a_failed_replica_stops_its_peers() -> None:
    """A failed replica means to stop its peers, if the failure policy says so."""
    found = trigger_event("a", app("RUNNING", "FAILED"), END)

    assert isinstance(found, Fail)
    assert 1 == found.lost.id
    assert trigger_event("a", app("RUNNING", "FAILED", policy="wait_all"), END) is None


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("SUCCEEDED",), ("reached", "SUCCEEDED")),
        (("RUNNING", "FAILED"), ("failed", "FAILED")),
        (("RUNNING", "RUNNING"), None),
    ],
)
def test_a_condition(states: tuple[str, ...], expected: tuple[str, str] | None) -> None:
    """A condition fires an event when it holds or can no longer hold, and never stops an app."""
    assert expected == reason(trigger_event("a", app(*states), SUCCESS))


def test_an_app_that_does_not_exist() -> None:
    """An app that does not exist fires ``gone``, unless the trigger waits for its launch."""
    assert ("gone", None) == reason(trigger_event("a", None, END))
    assert ("gone", None) == reason(trigger_event("a", None, SUCCESS))
    assert (
        trigger_event("a", None, WaitFor(condition=SUCCESS.condition, wait_for_launch=True)) is None
    )


def test_the_message_of_an_event() -> None:
    """The message says which replica failed first and why, and the event is JSON."""
    event = trigger_event("a", app("CANCELLED", "FAILED"), END)

    assert event == make_event(
        "a", "reached", "FAILED", "app 'a' is FAILED: trainer/1 failed first: exit code 7."
    )
    assert event == json.loads(json.dumps(event))
