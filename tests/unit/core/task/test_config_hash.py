"""Tests of the configuration hash."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.task.config_hash import config_hash, is_same_config
from airflow_torchx.specs import (
    AppDef,
    BindMount,
    DeviceMount,
    Resource,
    RetryPolicy,
    Role,
    VolumeMount,
)

ROLE = Role("trainer", "busybox", entrypoint="run", args=["--lr", "0.1"], num_replicas=2)
APP = AppDef("app", [ROLE])


def role_hash(**changes: object) -> str:
    """Return the hash of the app with a changed role."""
    return config_hash(AppDef("app", [replace(ROLE, **changes)]), Opts(), ())  # type: ignore[arg-type]


def options_hash(**options: object) -> str:
    """Return the hash of the app with these options."""
    return config_hash(APP, Opts.parse(options), ())


def test_hashes_are_pinned() -> None:
    """A change of these literals stops running apps at an upgrade and needs a new version."""
    role = replace(
        ROLE,
        env={"SEED": "1"},
        max_retries=3,
        retry_policy=RetryPolicy.REPLICA,
        resource=Resource(cpu=2, gpu=1, memMB=4096, devices={"dev": 1}),
        port_map={"web": 8080},
        mounts=[
            BindMount("/data", "/data", read_only=True),
            VolumeMount("models", "/models"),
            DeviceMount("/dev/fuse", "/dev/fuse"),
        ],
    )
    options = Opts.parse({"network": "lab", "stop_grace_s": "30", "labels": {"team": "a"}})
    everything = config_hash(AppDef("app", [role, replace(ROLE, name="b")]), options, {"B", "A"})

    assert "v1-677ba94f5ede2666" == config_hash(AppDef("app", [Role("a", "busybox")]), Opts(), ())
    assert "v1-8a604089cfb77ed7" == config_hash(APP, Opts(env={"SEED": "1"}), {"TOKEN": "secret"})
    assert "v1-2343379a3223f270" == everything


def test_defaults_do_not_count() -> None:
    """A default that is written out gives the same hash as one that is left out."""
    assert options_hash() == options_hash(network="torchx", init=None, env={}, stop_grace_s=10)
    assert role_hash() == role_hash(max_retries=0, resource=Resource(-1, -1, -1), metadata={})


def test_new_fields_and_options_do_not_count() -> None:
    """A release that adds a field or an option with a default keeps the hash of a running app."""

    @dataclass(frozen=True, slots=True)
    class NewerRole(Role):
        shm_mb: int = 64

    @dataclass(frozen=True, slots=True)
    class NewerMount(BindMount):
        propagation: str = "rprivate"

    @dataclass(frozen=True, kw_only=True)
    class NewerOpts(Opts):
        cgroup_parent: str | None = None

        def __post_init__(self) -> None:
            """Take the values as they are."""

    def newer(**changes: object) -> str:
        role = NewerRole(**{**contents(ROLE), **changes})  # type: ignore[arg-type]
        return config_hash(AppDef("app", [role]), Opts(), ())

    def contents(role: Role) -> dict[str, object]:
        return {name: getattr(role, name) for name in Role.__slots__}

    assert role_hash() == newer()
    assert role_hash() != newer(shm_mb=128)
    assert options_hash() == config_hash(APP, NewerOpts(), ())
    assert options_hash() != config_hash(APP, NewerOpts(cgroup_parent="lab"), ())


def test_secrets_count_by_name() -> None:
    """A new value of a secret keeps the hash, another secret changes it."""
    digest = config_hash(APP, Opts(), {"TOKEN": "a"})

    assert digest == config_hash(APP, Opts(), {"TOKEN": "b"})
    assert digest != config_hash(APP, Opts(), {"PASSWORD": "a"})
    assert digest != config_hash(APP, Opts(), ())


@pytest.mark.parametrize(
    "changes",
    [
        {"image": "other"},
        {"args": ["--lr", "0.2"]},
        {"num_replicas": 3},
        {"env": {"SEED": "1"}},
        {"resource": Resource(cpu=1, gpu=-1, memMB=-1)},
        {"mounts": [BindMount("/a", "/a")]},
        {"metadata": {"a": {"b": 1}}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_changed_roles_change_the_hash(changes: dict[str, object]) -> None:
    """Another value of a field is another configuration."""
    assert role_hash() != role_hash(**changes)


def test_kinds_of_mounts_are_told_apart() -> None:
    """A bind mount and a device with the same paths have different hashes."""
    bind, device = BindMount("/dev/fuse", "/dev/fuse"), DeviceMount("/dev/fuse", "/dev/fuse")

    assert role_hash(mounts=[bind]) != role_hash(mounts=[device])


def test_options_of_the_build_do_not_count() -> None:
    """How an image is built, kept or logged does not make another app of it."""
    build = {"quiet": True, "keep_images": 1, "max_context_mb": 9}

    assert options_hash() == options_hash(**build)
    assert options_hash() != options_hash(network="other")


def test_values_that_are_not_json_have_a_hash() -> None:
    """The hash leaves it to the preflight to refuse values that are not JSON."""
    assert role_hash(metadata={"a": {1}}) != role_hash(metadata={"a": {2}})


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("v1-a", "v1-a", True),
        ("v1-a", "v1-b", False),
        ("v1-a", "v2-b", True),
        ("v1-a", "", False),
        ("v1-a", "a", False),
        ("", "", True),
    ],
)
def test_hashes_of_other_versions_count_as_the_same(one: str, other: str, expected: bool) -> None:
    """Hashes of different versions count as the same configuration."""
    assert expected is is_same_config(one, other)
