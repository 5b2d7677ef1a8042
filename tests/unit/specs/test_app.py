"""Tests the fields of the specs, and that they cannot change."""

from __future__ import annotations

import copy
import dataclasses
import json
import operator
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx import specs
from airflow_torchx.errors import InvalidAppError
from airflow_torchx.specs import (
    NULL_RESOURCE,
    AppDef,
    BindMount,
    DeviceMount,
    FrozenDict,
    FrozenList,
    Resource,
    RetryPolicy,
    Role,
    RoleStatus,
    VolumeMount,
    Workspace,
    resource,
)

if TYPE_CHECKING:
    from collections.abc import Callable


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
        "AppHandle",
        "AppState",
        "BindMount",
        "DescribeAppResponse",
        "DeviceMount",
        "FrozenDict",
        "FrozenList",
        "InvalidRunConfigException",
        "ListAppResponse",
        "MalformedAppHandleException",
        "ParsedAppHandle",
        "ReplicaState",
        "ReplicaStatus",
        "ReplicaUsage",
        "Resource",
        "RetryPolicy",
        "Role",
        "RoleStatus",
        "UnknownAppException",
        "VolumeMount",
        "WorkerFailure",
        "Workspace",
        "as_app",
        "from_dict",
        "get_named_resources",
        "is_app",
        "is_terminal",
        "macros",
        "make_app_handle",
        "named_resources",
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
    assert isinstance(duplicate(app).roles, FrozenList)


def test_lists_and_tuples_are_equal() -> None:
    """A list and a tuple give equal specs."""
    metadata = {"a": ["x"]}

    assert Role("r", "i", args=["a"], metadata=metadata) == Role(
        "r", "i", args=("a",), metadata={"a": ("x",)}
    )


def test_frozen_list_equals_a_list() -> None:
    """A frozen list equals a list or a tuple with the same items, nested ones included."""
    role = Role("r", "i", args=["a", "b"], metadata={"n": [["x"], {"y": [1]}]})
    args: Any = role.args

    assert args == ["a", "b"]
    assert ["a", "b"] == args
    assert args == ("a", "b")
    assert {"n": [["x"], {"y": [1]}]} == role.metadata
    assert role.mounts == []
    assert AppDef("a", [role]).roles == [role]
    assert RoleStatus("r", []).replicas == []
    assert [args != other for other in (["a"], ("a",), "ab", None, ["a", "b"])] == [
        *(True, True, True, True, False)
    ]
    assert hash(args) == hash(("a", "b"))


def test_frozen_list_adds_to_a_list() -> None:
    """A frozen list adds to and multiplies into a new list, and a slice equals a list."""
    args: Any = Role("r", "i", args=["a", "b"]).args
    more = args + ["c"]  # noqa: RUF005 - the operator is the point
    more.append("d")
    more += args

    assert ["a", "b", "c", "d", "a", "b"] == more
    assert ["c", "a", "b"] == ["c"] + args  # noqa: RUF005
    assert [["b"], ["b", "a"], "b"] == [args[1:], args[::-1], args[-1]]
    assert [list, list] == [type(args[:1]), type(args.copy())]
    assert '["a", "b"]' == json.dumps(args)
    assert ("a", "b") == args
    assert [["a", "b"] * 2] * 2 == [args * 2, 2 * args]
    assert [list, list] == [type(args * 2), type(2 * args)]
    with pytest.raises(TypeError, match="can only concatenate"):
        args + 1
    with pytest.raises(TypeError):
        1 + args


def added(items: Any, more: object) -> Any:  # noqa: ANN401 - a list
    """Return what ``items += more`` makes of a list."""
    items += more
    return items


READS: Final[tuple[Callable[[Any], object], ...]] = (
    *(lambda x: x < ["z"], lambda x: x <= ["a", "b"], lambda x: x > ["a", "a", "a"]),
    *(lambda x: x >= ["b"], lambda x: ["A"] < x, lambda x: ["b"] <= x, lambda x: ["z"] > x),
    *(lambda x: x == ["a"], lambda x: x != ["a", "b"], lambda x: ["a", "b"] != x),
    *(lambda x: max(x, ["z"]), lambda x: sorted([x, ["0"], ["b"]]), lambda x: x < x[1:]),
    *(lambda x: "a" in x, lambda x: x.index("b"), lambda x: x.count("a"), lambda x: [*x]),
    *(lambda x: x[-3:], lambda x: x[::-1], lambda x: x[:1] == ["a"], lambda x: x[5:]),
    *(repr, str, "{}".format, list, sorted, len, bool, json.dumps, " ".join),
    *(copy.copy, copy.deepcopy, lambda x: x.copy(), lambda x: [x] == [[*x]]),
    *(lambda x: x + x, lambda x: type(x + x), lambda x: type(x * 2), lambda x: -1 * x),
    *(lambda x: added(x, ["c"]), lambda x: added(x, "cd"), lambda x: added(x, {"c": 1})),
    lambda x: operator.imul(x, 2),  # type: ignore[no-untyped-call]
)


def test_frozen_list_is_read_as_a_list() -> None:
    """What reads a list has the same result of a frozen list."""
    args = Role("r", "i", args=["a", "b"]).args

    assert [] == [number for number, read in enumerate(READS) if read(["a", "b"]) != read(args)]


@pytest.mark.parametrize("other", [1, None, "z", {"z": 1}])
def test_frozen_list_is_not_less_than_another_type(other: Any) -> None:  # noqa: ANN401
    """A frozen list can be ordered among lists and tuples, and among nothing else."""
    args: Any = Role("r", "i", args=["a"]).args

    assert args != other
    for compare in (operator.lt, operator.ge):
        with pytest.raises(TypeError, match="not supported between"):
            compare(args, other)


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("__setitem__", (0, "x")),
        ("__delitem__", (0,)),
        ("append", ("x",)),
        ("clear", ()),
        ("extend", (["x"],)),
        ("insert", (0, "x")),
        ("pop", ()),
        ("remove", ("a",)),
        ("reverse", ()),
        ("sort", ()),
    ],
)
def test_lists_are_read_only(method: str, args: tuple[object, ...]) -> None:
    """Every method that changes a spec's list raises an error that says how to copy it."""
    role = Role("r", "i", args=["a"])

    with pytest.raises(TypeError, match=r"\[\*frozen, item\]"):
        getattr(role.args, method)(*args)
    assert ["a"] == role.args


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


def test_wrong_containers_are_reported_at_once() -> None:
    """One error names the role or the app, and all its fields of a wrong type."""
    fields: Any = {"args": "--lr 1", "env": None, "mounts": ""}
    with pytest.raises(InvalidAppError) as of_role:
        Role("trainer", "i", **fields)
    with pytest.raises(InvalidAppError) as of_app:
        AppDef("train", roles=Role("r", "i"))  # type: ignore[arg-type]

    assert "invalid role 'trainer': 3 problems" == of_role.value.what.splitlines()[0]
    assert ["args", "mounts", "env"] == [
        problem.where.removeprefix("Role.") for problem in of_role.value.problems
    ]
    assert "invalid app 'train': 1 problem" == of_app.value.what.splitlines()[0]


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


def test_workspace_that_is_a_path() -> None:
    """A role takes a path as one folder."""
    folder: Any = Path("code")

    assert Workspace({"code": ""}) == Role("r", "i", workspace=folder).workspace


def test_role_of_an_app() -> None:
    """A role is found by its name, never by position, and an app cannot be iterated over."""
    app = AppDef("a", [Role("trainer", "i"), Role("ps", "j"), Role("ps", "k")])

    assert app.roles[1] is app.get_role("ps") is app["ps"]
    assert ["trainer"] == [name for name in ("trainer", "Trainer", 0, app.roles[0]) if name in app]
    with pytest.raises(KeyError, match="app 'a' has no role 'x'; its roles: trainer, ps, ps"):
        app["x"]
    with pytest.raises(KeyError, match="its roles: none"):
        AppDef("a").get_role("x")
    with pytest.raises(TypeError, match="not iterable"):
        list(app)  # type: ignore[call-overload]


def test_copy_of_a_resource() -> None:
    """A copy of a resource has more capabilities, or other values of some, as in TorchX."""
    tags, devices = {"t": 1}, {"nic": 1}
    one = Resource(1, 2, 3, {"a": 1, "b": 1}, devices, tags)

    assert Resource(1, 2, 3, {"a": 1, "b": 2, "c": [3]}, devices, tags) == Resource.copy(
        one, b=2, c=[3]
    )
    assert one == Resource.copy(one)


def test_name_of_a_resource() -> None:
    """A named resource knows its name, and TorchX's tag marks a part of one."""
    named = resource(h="GPU.small")
    part = Resource(1, 1, 1, tags={"torchx/named_resources.is_fractional": True})

    assert ["gpu.small", None] == [one.get_resource_name() for one in (named, part)]
    assert [False, True] == [one.is_fractional() for one in (named, part)]


@pytest.mark.parametrize(
    ("text", "projects"),
    [
        (None, {}),
        ("", {}),
        (" ", {}),
        ("~/code", {"~/code": ""}),
        ("memory://x/y", {"memory://x/y": ""}),
        ("~", {"~": ""}),
        ("a: b", {"a": "b"}),
        ("a:\nb: c/d\n~/e: ''", {"a": "", "b": "c/d", "~/e": ""}),
        ("{a: b, s3://c/d: null}", {"a": "b", "s3://c/d": ""}),
        ("/a: [b", {"/a: [b": ""}),
    ],
)
def test_workspace_from_a_text(text: str | None, projects: dict[str, str]) -> None:
    """A text is one folder, or a mapping of folders as YAML, as in TorchX."""
    assert Workspace(projects) == Workspace.from_str(text)


@pytest.mark.parametrize(
    ("projects", "text", "is_single"),
    [
        ({}, "", False),
        ({"a": ""}, "a", True),
        ({"a": "b"}, "a:b", False),
        ({"a": "", "b": "c"}, "a;b:c", False),
    ],
)
def test_text_of_a_workspace(projects: dict[str, str], text: str, is_single: bool) -> None:
    """A workspace is printed as TorchX prints it."""
    assert text == str(Workspace(projects)) == f"{Workspace(projects)}"
    assert is_single is Workspace(projects).is_unmapped_single_project()


def test_workspace_is_merged(tmp_path: Path) -> None:
    """Folders and files are copied to their targets, and later ones replace files, as in TorchX."""
    for path, text in {"a/x": "a", "a/b/y": "a", "c/x": "c", "f": "f", "g": "g"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    out = tmp_path / "out"
    projects = {"a": "", "c": "", "c/x": "b", "f": "", "g": "h"}
    own = Workspace({str(tmp_path / src): dst for src, dst in projects.items()})

    own.merge_into(str(out))
    Workspace({f"{tmp_path}/a": "lib/a"}).merge_into(out)

    merged = {str(p.relative_to(out)): p.read_text() for p in out.rglob("*") if p.is_file()}
    assert {
        "x": "c",
        "b/y": "a",
        "b/x": "c",
        "f": "f",
        "h": "g",
        "lib/a/x": "a",
        "lib/a/b/y": "a",
    } == merged
