"""Tests the conversion of specs to JSON and back."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_torchx import specs
from airflow_torchx.errors import InvalidAppError
from airflow_torchx.specs import (
    AppDef,
    AppState,
    BindMount,
    DescribeAppResponse,
    DeviceMount,
    ListAppResponse,
    ReplicaStatus,
    ReplicaUsage,
    Resource,
    RetryPolicy,
    Role,
    RoleStatus,
    VolumeMount,
    WorkerFailure,
    Workspace,
    from_dict,
    to_dict,
)
from airflow_torchx.specs.serialize import _FIELDS

# Characters that JSON must escape; all of Unicode takes seconds to set up.
TEXT = st.text("aZ0_ é€\n\"'\\$\x00\U0001f600", max_size=8)
WHOLE = st.integers()
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
STRINGS = st.dictionaries(TEXT, TEXT, max_size=3)
NUMBERS = st.dictionaries(TEXT, WHOLE, max_size=3)
ANYTHING = st.dictionaries(
    TEXT,
    st.recursive(
        st.none() | st.booleans() | WHOLE | NUMBER | TEXT,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
        max_leaves=4,
    ),
    max_size=2,
)
MOUNTS = (
    st.builds(BindMount, TEXT, TEXT, st.booleans())
    | st.builds(VolumeMount, TEXT, TEXT, st.booleans())
    | st.builds(DeviceMount, TEXT, TEXT, TEXT)
)
RESOURCES = st.builds(Resource, WHOLE | NUMBER, WHOLE, WHOLE, ANYTHING, NUMBERS, ANYTHING)
ROLES = st.builds(
    Role,
    TEXT,
    TEXT,
    st.none() | WHOLE,
    TEXT,
    st.lists(TEXT, max_size=3),
    STRINGS,
    WHOLE,
    WHOLE,
    st.sampled_from(RetryPolicy),
    RESOURCES,
    NUMBERS,
    ANYTHING,
    st.lists(MOUNTS, max_size=2),
    st.none() | st.builds(Workspace, STRINGS),
)
APPS = st.builds(AppDef, TEXT, st.lists(ROLES, max_size=2), STRINGS)
TIMES = st.none() | st.datetimes(
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=30))])
)
REPLICAS = st.builds(
    ReplicaStatus,
    WHOLE,
    st.sampled_from(AppState),
    TEXT,
    TEXT,
    TEXT,
    st.none() | TEXT,
    exit_code=st.none() | WHOLE,
    signal=st.none() | TEXT,
    oom_killed=st.booleans(),
    error=TEXT,
    num_restarts=st.none() | WHOLE,
    started_at=TIMES,
    finished_at=TIMES,
    container_id=TEXT,
    worker=st.none()
    | st.builds(
        WorkerFailure,
        rank=st.none() | WHOLE,
        exit_code=st.none() | WHOLE,
        signal=st.none() | TEXT,
        message=TEXT,
        traceback=TEXT,
        failed_at=TIMES,
    ),
    rule=TEXT,
)
DESCRIPTIONS = st.builds(
    DescribeAppResponse,
    TEXT,
    st.sampled_from(AppState),
    WHOLE,
    TEXT,
    TEXT,
    st.none() | TEXT,
    STRINGS,
    st.lists(st.builds(RoleStatus, TEXT, st.lists(REPLICAS, max_size=2)), max_size=2),
    st.lists(ROLES, max_size=1),
)


def through_json(spec: object) -> Any:  # noqa: ANN401 - JSON data
    """Return a spec after a round trip through strict JSON."""
    return json.loads(json.dumps(to_dict(spec), allow_nan=False))


@settings(max_examples=30)
@given(APPS)
def test_apps_survive_json(app: AppDef) -> None:
    """Every app survives a round trip through JSON."""
    assert app == from_dict(through_json(app))


@settings(max_examples=30)
@given(DESCRIPTIONS)
def test_descriptions_survive_json(description: DescribeAppResponse) -> None:
    """Every description survives a round trip through JSON."""
    assert description == from_dict(through_json(description), DescribeAppResponse)


def test_list_responses_survive_json() -> None:
    """An entry of a list survives a round trip through JSON."""
    line = ListAppResponse("a", AppState.FAILED, "docker:///a", "train", datetime.now(UTC))

    assert line == from_dict(through_json(line), ListAppResponse)


def test_every_field_is_known() -> None:
    """The table of fields lists every class with all its fields in order."""
    classes = {
        cls
        for name in specs.__all__
        if isinstance(cls := getattr(specs, name), type) and dataclasses.is_dataclass(cls)
    }

    assert classes == set(_FIELDS)
    for cls, known in _FIELDS.items():
        assert [field.name for field in dataclasses.fields(cls)] == list(known)


def test_written_form() -> None:
    """States are written by name, times in ISO 8601, and mounts with their type."""
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    status = ReplicaStatus(0, AppState.FAILED, "r", "h", exit_code=1, finished_at=time)
    role = Role("r", "i", mounts=[VolumeMount("v", "/b")])

    assert {
        "id": 0,
        "state": "FAILED",
        "role": "r",
        "hostname": "h",
        "structured_error_msg": "<NONE>",
        "hostaddr": "h",
        "exit_code": 1,
        "signal": None,
        "oom_killed": False,
        "error": "",
        "num_restarts": None,
        "started_at": None,
        "finished_at": "2026-01-02T03:04:05+00:00",
        "container_id": "",
        "gpus": [],
        "stalled": False,
        "worker": None,
        "round": 0,
        "rule": "",
        "usage": None,
        "created_at": None,
        "node": "",
    } == to_dict(status)
    assert [{"type": "volume", "src": "v", "dst_path": "/b", "read_only": False}] == to_dict(role)[
        "mounts"
    ]


def test_defaults_may_be_omitted() -> None:
    """Fields with a default may be omitted."""
    assert AppDef("a", [Role("r", "i", env={"A": "1"})]) == from_dict(
        {"name": "a", "roles": ({"name": "r", "image": "i", "env": {"A": "1"}},)}
    )


def role_with(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - right or wrong
    """Return the data of an app with one role that has these fields."""
    return {"name": "a", "roles": [{"name": "r", "image": "i", **fields}]}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (3, "app: expected a dict, got 3; write the fields of AppDef"),
        ({}, "name: missing; set it, it has no default"),
        ({"name": 3}, "name: expected a string, got 3; put it in quotes"),
        ({"name": "a", "roles": {}}, "roles: expected a list, got {}; put a single value in a"),
        ({"name": "a", "roles": ["r"]}, "roles[0]: expected a dict, got 'r'; write the fields of"),
        ({"name": "a", 1: 2}, "1: unknown field; use one of name, roles, metadata"),
        ({"name": "a", "rolse": []}, "rolse: unknown field; did you mean 'roles'?"),
        (
            role_with(resource={"cpu": 1, "gpu": 0, "memMB": "lots"}),
            "roles[0].resource.memMB: expected a whole number of MB, got 'lots'; write digits",
        ),
        (
            role_with(resource={"cpu": 1, "gpu": 0, "memMB": 1, "MEMMB": 2}),
            "roles[0].resource.MEMMB: unknown field; did you mean 'memMB'?",
        ),
        (
            role_with(resource={"cpu": True, "gpu": 0, "memMB": 1}),
            "roles[0].resource.cpu: expected a number of CPUs, got True; write it like 2 or 0.5",
        ),
        (
            role_with(resource={"cpu": "1", "gpu": 0, "memMB": 1}),
            "roles[0].resource.cpu: expected a number of CPUs, got '1'",
        ),
        (
            role_with(resource={"cpu": float("inf"), "gpu": 0, "memMB": 1}),
            "roles[0].resource.cpu: expected a number of CPUs, got inf",
        ),
        (role_with(max_retries=True), "roles[0].max_retries: expected a whole number of retries"),
        (role_with(min_replicas=1.5), "roles[0].min_replicas: expected a whole number of replicas"),
        (role_with(args=["a", 1]), "roles[0].args[1]: expected a string, got 1"),
        (role_with(env={"LR": 1}), "roles[0].env['LR']: expected a string, got int"),
        (role_with(env=["LR=1"]), "roles[0].env: expected a dict, got list; write a dict"),
        (role_with(env={1: "a"}), "roles[0].env: expected strings as keys, got int"),
        (role_with(port_map={"p": "1"}), "roles[0].port_map['p']: expected a whole number, got"),
        (role_with(retry_policy="ROL"), "expected a retry policy, got 'ROL'; did you mean 'ROLE'?"),
        (role_with(metadata={"a": [object]}), "roles[0].metadata['a'][0]: expected a JSON value"),
        (role_with(workspace="~/x"), "roles[0].workspace: expected a dict, got '~/x'; write the"),
        (role_with(resource="gpu.small"), "got 'gpu.small'; write resource(h='gpu.small'), with"),
        (role_with(mounts=["/a:/b"]), "roles[0].mounts[0]: expected a dict, got '/a:/b'; write"),
        (role_with(mounts=[{}]), "roles[0].mounts[0].type: expected a mount type, got None"),
        (role_with(mounts=[{"type": ["bind"]}]), "expected a mount type, got ['bind']"),
        (
            role_with(mounts=[{"type": "bnd"}]),
            "expected a mount type, got 'bnd'; did you mean 'bind'?",
        ),
        (
            role_with(mounts=[{"type": "device", "src_path": "a", "dst_path": "b", "src_pth": ""}]),
            "roles[0].mounts[0].src_pth: unknown field; did you mean 'src_path'?",
        ),
        (
            role_with(mounts=[{"type": "bind", "src_path": "a", "dst_path": "b", "read_only": 1}]),
            "roles[0].mounts[0].read_only: expected true or false, got 1; write true or false",
        ),
    ],
)
def test_one_mistake(data: object, expected: str) -> None:
    """A mistake is reported with the field's path, the expected value and a fix."""
    with pytest.raises(InvalidAppError) as caught:
        from_dict(data)

    assert 1 == len(caught.value.problems)
    assert expected in str(caught.value.problems[0])


@pytest.mark.parametrize("env", [["A=s3cr3t"], "A=s3cr3t", {"A": ["s3cr3t"]}, {"A": {"s3cr3t": 1}}])
def test_environment_values_are_not_shown(env: object) -> None:
    """An error about an environment never shows a value, which may be a secret."""
    with pytest.raises(
        InvalidAppError, match=r"roles\[0\]\.env.*: expected a .*, got (list|str|dict)"
    ) as caught:
        from_dict(role_with(env=env))

    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"state": "RUNING"}, "state: expected the name of a state, got 'RUNING'; did you mean 'R"),
        ({"state": 3}, "state: expected the name of a state, got 3; use one of UNSUBMITTED,"),
        ({"started_at": "now"}, "started_at: expected a time in ISO 8601, got 'now'; write it li"),
        ({"started_at": 0}, "started_at: expected a time in ISO 8601, got 0"),
    ],
)
def test_one_mistake_in_a_status(fields: dict[str, Any], expected: str) -> None:
    """Invalid states and times are reported with their field."""
    data = {"id": 0, "state": "RUNNING", "role": "r", "hostname": "h", **fields}

    with pytest.raises(InvalidAppError) as caught:
        from_dict(data, ReplicaStatus)

    assert expected in str(caught.value.problems[0])


def test_all_mistakes_are_reported() -> None:
    """One error lists every problem and names the app."""
    with pytest.raises(InvalidAppError) as caught:
        from_dict({"name": "train", "roles": [{"name": 1, "imag": "i"}, {"args": "x"}]})

    assert "invalid app 'train': 6 problems" == caught.value.what.splitlines()[0]
    assert [
        "roles[0].imag",
        "roles[0].image",
        "roles[0].name",
        "roles[1].name",
        "roles[1].image",
        "roles[1].args",
    ] == [problem.where for problem in caught.value.problems]


def test_values_that_are_not_json() -> None:
    """Values that are not JSON are rejected when a spec is written."""
    metadata = {"a": {1: 2}, "b": [float("nan"), object], "c": {"d": {1, 2}}}

    with pytest.raises(InvalidAppError) as caught:
        to_dict(AppDef("a", [Role("r", "i", metadata=metadata)]))

    assert [
        "roles[0].metadata['a']",
        "roles[0].metadata['b'][0]",
        "roles[0].metadata['b'][1]",
        "roles[0].metadata['c']['d']",
    ] == [problem.where for problem in caught.value.problems]


def test_the_usage_of_a_replica() -> None:
    """It is written and read without loss, and is JSON data in TorchX's form, too."""
    numbers = {
        field.name: 1.5 if "float" in str(field.type) else 7
        for field in dataclasses.fields(ReplicaUsage)
        if field.name != "sampled_at"
    }
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    usage = ReplicaUsage(sampled_at=noon, **numbers)  # type: ignore[arg-type]
    replica = ReplicaStatus(0, AppState.RUNNING, "r", "h", usage=usage, created_at=noon)

    assert replica == from_dict(json.loads(json.dumps(to_dict(replica))), ReplicaStatus)
    (shown,) = json.loads(json.dumps(RoleStatus("r", [replica]).to_json()))["replicas"]
    assert {"sampled_at": noon.isoformat(), **numbers} == shown["usage"]
