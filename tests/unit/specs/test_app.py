"""Tests the fields of the specs, and that they cannot change."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest

from airflow_torchx import specs
from airflow_torchx.errors import InvalidAppError
from airflow_torchx.specs import (
    NULL_RESOURCE,
    AppDef,
    BindMount,
    DeviceMount,
    FrozenDict,
    Resource,
    RetryPolicy,
    Role,
    VolumeMount,
    Workspace,
    resource,
)


def full_app() -> AppDef:
    """Return an app that sets every field."""
    trainer = Role(
        name="trainer",
        image="img",
        min_replicas=1,
        entrypoint="python",
        args=["main.py"],
        env={"A": "1"},
        num_replicas=2,
        max_retries=3,
        retry_policy=RetryPolicy.REPLICA,
        resource=Resource(0.5, 1, 512, {"arch": ["a", {"b": 1}]}, {"nic": 1}, {"t": None}),
        port_map={"c10d": 29500},
        metadata={"docker": {"x": ["${app_id}"]}},
        mounts=[BindMount("/a", "/b"), VolumeMount("v", "/w", True), DeviceMount("/d", "/d", "r")],
        workspace=Workspace({"~/project": ""}),
    )
    return AppDef("train", [trainer], {"owner": "me"})


def test_public_names() -> None:
    """The package exports these names, in order."""
    expected = [
        "MISSING",
        "NONE",
        "NULL_RESOURCE",
        "AnyApp",
        "AppDef",
        "AppState",
        "BindMount",
        "DescribeAppResponse",
        "DeviceMount",
        "FrozenDict",
        "ListAppResponse",
        "ParsedAppHandle",
        "ReplicaState",
        "ReplicaStatus",
        "Resource",
        "RetryPolicy",
        "Role",
        "RoleStatus",
        "VolumeMount",
        "Workspace",
        "app_id_of",
        "as_app",
        "from_dict",
        "is_app",
        "is_terminal",
        "macros",
        "make_app_handle",
        "parse_app_handle",
        "parse_mounts",
        "resource",
        "to_dict",
    ]

    assert expected == specs.__all__
    assert all(hasattr(specs, name) for name in expected)


def test_order_and_defaults_are_torchx() -> None:
    """Positional arguments and defaults are those of TorchX."""
    role = Role("r", "img")

    assert [
        ("name", "r"),
        ("image", "img"),
        ("min_replicas", None),
        ("entrypoint", "<MISSING>"),
        ("args", ()),
        ("env", {}),
        ("num_replicas", 1),
        ("max_retries", 0),
        ("retry_policy", "APPLICATION"),
        ("resource", NULL_RESOURCE),
        ("port_map", {}),
        ("metadata", {}),
        ("mounts", ()),
        ("workspace", None),
    ] == [(field.name, getattr(role, field.name)) for field in dataclasses.fields(role)]
    assert ["name", "roles", "metadata"] == [f.name for f in dataclasses.fields(AppDef)]
    assert Resource(cpu=-1, gpu=-1, memMB=-1) == NULL_RESOURCE
    assert DeviceMount("/d", "/e") == DeviceMount("/d", "/e", "rwm")


@pytest.mark.parametrize(
    "duplicate",
    [
        pytest.param(lambda spec: pickle.loads(pickle.dumps(spec)), id="pickle"),  # noqa: S301 - our own bytes
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(copy.copy, id="copy"),
        pytest.param(dataclasses.replace, id="replace"),
    ],
)
def test_copies_are_equal(duplicate: Any) -> None:  # noqa: ANN401 - one of four functions
    """A spec equals its copies, however they are made, and they are read-only too."""
    app = full_app()

    assert app == duplicate(app)
    assert isinstance(duplicate(app).metadata, FrozenDict)


def test_lists_and_tuples_are_equal() -> None:
    """A list and a tuple give equal specs."""
    metadata = {"a": ["x"]}

    assert Role("r", "i", args=["a"], metadata=metadata) == Role(
        "r", "i", args=("a",), metadata={"a": ("x",)}
    )


def test_caller_keeps_its_lists() -> None:
    """A spec does not follow later changes of the caller's lists and dicts."""
    args, env, nested = ["a"], {"A": "1"}, {"k": {"l": [1]}}
    role = Role("r", "i", args=args, env=env, metadata=nested)
    before = copy.deepcopy(role)
    args.append("b")
    env["B"] = "2"
    nested["k"]["l"].append(2)

    assert before == role
    assert ("a",) == role.args


def test_fields_are_frozen() -> None:
    """No field can be set."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Role("r", "i").image = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("__setitem__", ("A", "2")),
        ("__delitem__", ("A",)),
        ("__ior__", ({"B": "2"},)),
        ("clear", ()),
        ("pop", ("A",)),
        ("popitem", ()),
        ("setdefault", ("B", "2")),
        ("update", ({"B": "2"},)),
    ],
)
def test_dicts_are_read_only(method: str, args: tuple[object, ...]) -> None:
    """Every method that changes a spec's dict raises an error that says how to copy it."""
    role = Role("r", "i", env={"A": "1"}, metadata={"n": {"A": "1"}})

    with pytest.raises(TypeError, match=r"\{\*\*frozen, key: value\}"):
        getattr(role.env, method)(*args)
    with pytest.raises(TypeError):
        getattr(role.metadata["n"], method)(*args)
    assert {"A": "1"} == role.env


def test_dicts_are_dicts() -> None:
    """A spec's dict can be written as JSON and unpacked into a new dict."""
    env = Role("r", "i", env={"A": "1"}).env

    assert '{"A": "1"}' == json.dumps(env)
    assert {"A": "1", "B": "2"} == {**env, "B": "2"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"args": "--lr 1"}, "Role.args: expected a list, got str;"),
        ({"args": None}, "Role.args: expected a list, got None"),
        ({"mounts": {"a": "b"}}, "Role.mounts: expected a list, got dict;"),
        ({"env": ["A=1"]}, "Role.env: expected a dict, got list;"),
    ],
)
def test_wrong_containers(fields: dict[str, Any], message: str) -> None:
    """A field of the wrong type is rejected by its type, without its value."""
    with pytest.raises(InvalidAppError, match=message):
        Role("r", "i", **fields)


def test_whole_cpus_are_ints() -> None:
    """2.0 CPUs read as 2, and half a CPU stays half a CPU."""
    assert "2" == str(Resource(cpu=2.0, gpu=0, memMB=1).cpu)
    assert 0.5 == Resource(cpu=0.5, gpu=0, memMB=1).cpu


def test_resource_has_torchx_defaults() -> None:
    """None and zero mean 2 CPUs and 1024 MB, as in TorchX."""
    assert Resource(cpu=2, gpu=0, memMB=1024) == resource() == resource(cpu=0, memMB=0, h="")
    assert Resource(cpu=1, gpu=3, memMB=9) == resource(1, 3, 9)


def test_empty_workspace_is_false() -> None:
    """A workspace without projects is false, and equal workspaces have equal hashes."""
    assert not Workspace({})
    assert Workspace({"a": ""})
    assert 1 == len({Workspace({"a": "", "b": "c"}), Workspace({"b": "c", "a": ""})})
