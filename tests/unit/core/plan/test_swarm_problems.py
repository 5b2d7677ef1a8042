"""Tests of what a swarm cannot do for an app."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from airflow_torchx.core.engine.containers import EngineInfo
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.plan.preflight import DaemonFacts, daemon_problems
from airflow_torchx.specs import AppDef, DeviceMount, Resource, RetryPolicy, Role, Workspace

FACTS: Final = DaemonFacts(
    engine=EngineInfo(
        id="swarm",
        url="tcp://box1:2376",
        is_local=False,
        version="29.7.2",
        api_version="1.41",
        os="linux",
        cpus=8,
        memory_bytes=1 << 34,
        is_swarm=True,
    )
)
ROLE: Final = Role("trainer", image="img", entrypoint="true")


def _problems(role: Role = ROLE, **options: Any) -> dict[str, str]:  # noqa: ANN401 - any option
    app = AppDef("app", [role])
    found = daemon_problems(app, Opts.parse(options), FACTS)
    return {one.where: f"{one.what}: {one.fix}" for one in found}


def test_a_plain_app_has_none() -> None:
    """CPUs, memory, GPUs, and options that a swarm has, are fine."""
    role = replace(ROLE, resource=Resource(cpu=1, gpu=2, memMB=64), num_replicas=3)

    assert {} == _problems(role, cap_add=["IPC_LOCK"], tmpfs={"/x": "size=1m"}, user="1000")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("privileged", True),
        ("ipc_mode", "host"),
        ("runtime", "nvidia"),
        ("security_opt", ["seccomp=unconfined"]),
        ("gpu_driver", "cdi"),
        ("checkpoint", "volume"),
        ("checkpoint_signal", "SIGUSR1"),
    ],
)
def test_options_without_a_field(option: str, value: Any) -> None:  # noqa: ANN401 - any option
    """A manager would drop each of them without a word, so it is refused by its name."""
    assert [f"options.{option}"] == list(_problems(**{option: value}))


def test_options_of_a_tmpfs() -> None:
    """Only a size and a mode can be passed on."""
    found = _problems(tmpfs={"/x": "size=1m,uid=1000"})

    assert "uid=1000: use size= and mode= only" in found["options.tmpfs['/x']"]


@pytest.mark.parametrize("network", ["container:db", "default", "none"])
def test_a_network_of_one_daemon(network: str) -> None:
    """A container of one daemon cannot be joined from another node, nor is its network there."""
    assert ["options.network"] == list(_problems(network=network))


@pytest.mark.parametrize("version", ["20.10.24+dfsg1", "19.03.1"])
def test_old_managers_end_replicas_with_gpus(version: str) -> None:
    """Their enforcer takes a named resource for one that is gone; other apps are fine."""
    role = replace(ROLE, resource=Resource(cpu=1, gpu=1, memMB=0))
    facts = replace(FACTS, engine=replace(FACTS.engine, version=version))

    (found,) = daemon_problems(AppDef("app", [role]), Opts(), facts)

    assert "upgrade them to 23.0" in found.fix
    assert () == daemon_problems(AppDef("app", [ROLE]), Opts(), facts)


def test_shared_gpus() -> None:
    """A swarm has no GPUs that several replicas share."""
    role = replace(ROLE, resource=Resource(cpu=1, gpu=1, memMB=0))

    assert ["options.auto_set_gpus"] == list(_problems(role, auto_set_gpus=False))
    assert {} == _problems(auto_set_gpus=False)


def test_roles() -> None:
    """A device, a workspace without a registry, and a restart by the swarm are refused."""
    role = replace(
        ROLE,
        mounts=[DeviceMount(src_path="/dev/x", dst_path="/dev/x")],
        workspace=Workspace({"code": ""}),
        max_retries=2,
        retry_policy=RetryPolicy.REPLICA,
    )

    found = _problems(role)

    assert ["roles[0].workspace", "roles[0].retry_policy", "roles[0].mounts[0]"] == list(found)
    assert "set image_repo" in found["roles[0].workspace"]
    with_registry = replace(role, mounts=[], max_retries=0)
    assert {} == _problems(with_registry, image_repo="registry:5000/team")


def test_named_devices() -> None:
    """A device that a role asks for by its name is refused; unknown names are only warned of."""
    devices = {"vpc.amazonaws.com/efa": 1, "aws.amazon.com/neurondevice": 0, "other": 1}
    role = replace(ROLE, resource=Resource(cpu=1, gpu=0, memMB=0, devices=devices))

    assert ["roles[0].resource.devices['vpc.amazonaws.com/efa']"] == list(_problems(role))
