"""Tests states and responses."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from datetime import UTC, datetime

import pytest

from airflow_torchx.specs import (
    AppState,
    DescribeAppResponse,
    ListAppResponse,
    ReplicaState,
    ReplicaStatus,
    Role,
    RoleStatus,
    is_terminal,
)


def test_states_are_torchx() -> None:
    """States have TorchX's names and numbers, and print as their name."""
    names = [
        "UNSUBMITTED",
        "SUBMITTED",
        "PENDING",
        "RUNNING",
        "SUCCEEDED",
        "FAILED",
        "CANCELLED",
        "UNKNOWN",
    ]

    assert names == [str(state) for state in AppState]
    assert list(range(8)) == [int(state) for state in AppState]
    assert "RUNNING RUNNING (3)" == f"{AppState.RUNNING} {AppState.RUNNING!r}"
    assert ReplicaState is AppState


def test_terminal_states() -> None:
    """Three states are final; UNKNOWN is not."""
    assert [AppState.SUCCEEDED, AppState.FAILED, AppState.CANCELLED] == [
        state for state in AppState if is_terminal(state)
    ]


def test_replica_address_is_its_host_name() -> None:
    """Without an address, the host name is the address."""
    assert "h" == ReplicaStatus(0, AppState.RUNNING, "r", "h").hostaddr
    assert "1.2.3.4" == ReplicaStatus(0, AppState.RUNNING, "r", "h", "msg", "1.2.3.4").hostaddr


def test_own_fields_are_keywords() -> None:
    """TorchX's six fields come first, and ours are keyword-only."""
    fields = dataclasses.fields(ReplicaStatus)

    assert ["id", "state", "role", "hostname", "structured_error_msg", "hostaddr"] == [
        field.name for field in fields if not field.kw_only
    ]
    assert 16 == len([field for field in fields if field.kw_only])


@pytest.mark.parametrize(
    ("started", "finished", "expected"),
    [(None, None, None), (1, None, None), (None, 1, None), (1, 2, 1.0)],
)
def test_duration(started: int | None, finished: int | None, expected: float | None) -> None:
    """The duration is in seconds, and None until start and end are known."""
    times = [
        None if second is None else datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)
        for second in (started, finished)
    ]
    status = ReplicaStatus(0, AppState.RUNNING, "r", "h", started_at=times[0], finished_at=times[1])

    assert expected == status.duration_s


def test_describe_defaults_are_torchx() -> None:
    """An empty description has TorchX's defaults."""
    response = DescribeAppResponse()

    assert [
        ("app_id", "<NOT_SET>"),
        ("state", AppState.UNSUBMITTED),
        ("num_restarts", -1),
        ("msg", "<NONE>"),
        ("structured_error_msg", "<NONE>"),
        ("ui_url", None),
        ("metadata", {}),
        ("roles_statuses", ()),
        ("roles", ()),
    ] == [(field.name, getattr(response, field.name)) for field in dataclasses.fields(response)]
    assert ("<NOT_SET>", "") == (
        ListAppResponse("a", AppState.FAILED).app_handle,
        ListAppResponse("a", AppState.FAILED).name,
    )


def test_role_status_as_json() -> None:
    """A replica has TorchX's keys and number of the state, the state's name, and our keys."""
    ended = datetime(2026, 1, 1, tzinfo=UTC)
    replica = ReplicaStatus(1, AppState.FAILED, "r", "h", exit_code=3, finished_at=ended)

    data = json.loads(json.dumps(RoleStatus("r", [replica]).to_json()))

    assert {
        "role": "r",
        "replicas": [
            {
                "id": 1,
                "state": 5,
                "role": "r",
                "hostname": "h",
                "structured_error_msg": "<NONE>",
                "hostaddr": "h",
                "exit_code": 3,
                "signal": None,
                "oom_killed": False,
                "error": "",
                "num_restarts": None,
                "started_at": None,
                "finished_at": "2026-01-01T00:00:00+00:00",
                "container_id": "",
                "gpus": [],
                "stalled": False,
                "worker": None,
                "round": 0,
                "rule": "",
                "usage": None,
                "created_at": None,
                "node": "",
                "state_name": "FAILED",
            }
        ],
    } == data


def test_responses_are_frozen_copies() -> None:
    """A description can be copied and pickled, and does not follow the caller's lists."""
    replicas = [ReplicaStatus(0, AppState.RUNNING, "r", "h")]
    response = DescribeAppResponse(
        roles_statuses=[RoleStatus("r", replicas)], roles=[Role("r", "")]
    )
    before = copy.deepcopy(response)
    replicas.clear()

    assert before == response == pickle.loads(pickle.dumps(response))  # noqa: S301 - our own bytes
    assert 1 == len(response.roles_statuses[0].replicas)
    assert {ListAppResponse("a", AppState.FAILED)} == {ListAppResponse("a", AppState.FAILED)}
