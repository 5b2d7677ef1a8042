"""Request bodies and parameters of the Engine API."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from airflow_torchx.core.engine.containers import (
    ContainerSpec,
    GpuRequest,
    HostOptions,
    LogQuery,
    PortBinding,
    Ulimit,
)
from airflow_torchx.docker_engine.spec import container_json, log_params
from airflow_torchx.specs import BindMount, DeviceMount, VolumeMount

SPEC: Final = ContainerSpec(
    role="trainer",
    replica=0,
    name="app-trainer-0",
    image="img",
    entrypoint="python",
    args=("main.py", "--x"),
    env={"A": "1=2"},
    labels={"k": "v"},
    network="torchx",
)


def test_plain_container() -> None:
    """Fields that the spec does not set are left to the daemon's defaults."""
    expected = {
        "Image": "img",
        "Entrypoint": ["python"],
        "Cmd": ["main.py", "--x"],
        "Hostname": "app-trainer-0",
        "Env": ["A=1=2"],
        "Labels": {"k": "v"},
        "StopTimeout": 10,
        "HostConfig": {"NetworkMode": "torchx"},
        "NetworkingConfig": {"EndpointsConfig": {"torchx": {"Aliases": ["app-trainer-0"]}}},
    }

    assert expected == container_json(SPEC)


def test_full_container() -> None:
    """Each field of the spec becomes a field of the request."""
    spec = replace(
        SPEC,
        mounts=(BindMount("/a", "/b", read_only=True), VolumeMount("vol", "/c")),
        devices=(DeviceMount("/dev/x", "/dev/y", "rw"),),
        nano_cpus=1_500_000_000,
        memory_mib=512,
        gpus=GpuRequest(count=2, device_ids=("0", "3")),
        max_restarts=3,
        ports=(PortBinding(container_port=29500, host_port=0),),
        stop_grace_s=0.2,
        host=HostOptions(
            privileged=True,
            user="1000:1000",
            ipc_mode="host",
            ulimits=(Ulimit(name="memlock", soft=-1, hard=-1),),
            cap_add=("SYS_PTRACE",),
            init=True,
            extra_hosts={"db": "10.0.0.1"},
            dns=("1.1.1.1",),
            log_driver="local",
            log_options={"max-size": "1m"},
            runtime="nvidia",
            security_opt=("seccomp=unconfined",),
            tmpfs={"/scratch": "size=1m"},
            working_dir="/w",
        ),
    )

    body = container_json(spec)

    assert ("1000:1000", "/w", 1) == (body["User"], body["WorkingDir"], body["StopTimeout"])
    assert {"29500/tcp": {}} == body["ExposedPorts"]
    assert {
        "NetworkMode": "torchx",
        "NanoCpus": 1_500_000_000,
        "Memory": 512 * 2**20,
        "ShmSize": 512 * 2**20,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        "Mounts": [
            {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True},
            {"Type": "volume", "Source": "vol", "Target": "/c", "ReadOnly": False},
        ],
        "Devices": [
            {"PathOnHost": "/dev/x", "PathInContainer": "/dev/y", "CgroupPermissions": "rw"}
        ],
        "DeviceRequests": [
            {
                "Driver": "",
                "DeviceIDs": ["0", "3"],
                "Capabilities": [["gpu"]],
            }
        ],
        "PortBindings": {"29500/tcp": [{"HostPort": "0"}]},
        "Privileged": True,
        "IpcMode": "host",
        "Ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}],
        "CapAdd": ["SYS_PTRACE"],
        "Init": True,
        "ExtraHosts": ["db:10.0.0.1"],
        "Dns": ["1.1.1.1"],
        "LogConfig": {"Type": "local", "Config": {"max-size": "1m"}},
        "Runtime": "nvidia",
        "SecurityOpt": ["seccomp=unconfined"],
        "Tmpfs": {"/scratch": "size=1m"},
    } == body["HostConfig"]


def test_every_field_reaches_the_daemon() -> None:
    """Each field of the options reaches the request, including any added later."""
    named = {field.lower().replace("_", "") for field in HostOptions.__dataclass_fields__}
    body = container_json(replace(SPEC, host=_every_option()))
    sent = {key.lower() for key in (*body, *body["HostConfig"])}

    assert {"logdriver", "logoptions"} == named - sent


def _every_option() -> HostOptions:
    return HostOptions(
        privileged=True,
        user="u",
        ipc_mode="host",
        ulimits=(Ulimit(name="core", soft=0, hard=0),),
        cap_add=("ALL",),
        init=False,
        extra_hosts={"a": "b"},
        dns=("1.1.1.1",),
        log_options={"tag": "t"},
        runtime="runc",
        security_opt=("label=disable",),
        tmpfs={"/t": ""},
        working_dir="/",
    )


def test_any_gpus() -> None:
    """Without GPU ids, the request asks for a number of GPUs."""
    request = container_json(replace(SPEC, gpus=GpuRequest(count=2)))["HostConfig"]

    assert [2] == [wanted["Count"] for wanted in request["DeviceRequests"]]
    assert "DeviceIDs" not in request["DeviceRequests"][0]


@pytest.mark.parametrize("gpu_id", ["gpu0", "mig0:1"])
def test_gpus_that_only_cdi_names(gpu_id: str) -> None:
    """They are requested of CDI also if no driver is given."""
    gpus = GpuRequest(count=1, device_ids=(gpu_id,))

    assert [{"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={gpu_id}"]}] == container_json(
        replace(SPEC, gpus=gpus)
    )["HostConfig"]["DeviceRequests"]


def test_gpus_of_cdi() -> None:
    """In a request to CDI, each id has its vendor and class."""
    nvidia = GpuRequest(count=2, device_ids=("GPU-1", "0:1"), driver="cdi")
    amd = GpuRequest(count=1, device_ids=("0",), driver="cdi", kind="amd.com/gpu")

    requests = [
        container_json(replace(SPEC, gpus=gpus))["HostConfig"]["DeviceRequests"]
        for gpus in (nvidia, amd)
    ]

    assert [
        [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=GPU-1", "nvidia.com/gpu=0:1"]}],
        [{"Driver": "cdi", "DeviceIDs": ["amd.com/gpu=0"]}],
    ] == requests


def test_no_memory_limit() -> None:
    """A memory of 0 means no limit, as in TorchX, and Docker's default /dev/shm."""
    config = container_json(replace(SPEC, memory_mib=0))["HostConfig"]

    assert (0, 0) == (config["Memory"], config["ShmSize"])


def test_log_options_alone() -> None:
    """Log options without a driver apply to the daemon's default driver."""
    host = HostOptions(log_options={"max-file": "2"})
    config = container_json(replace(SPEC, host=host))["HostConfig"]["LogConfig"]

    assert {"Type": "", "Config": {"max-file": "2"}} == config


@pytest.mark.parametrize("network", ["host", "none", "bridge", "default", "container:x"])
def test_networks_without_aliases(network: str) -> None:
    """Networks that allow no aliases get none; a joined container's host name is kept."""
    body = container_json(replace(SPEC, network=network))

    assert network == body["HostConfig"]["NetworkMode"]
    assert "NetworkingConfig" not in body
    assert ("Hostname" in body) == (network not in {"container:x", "host"})


def test_host_name_on_the_network_of_the_host() -> None:
    """On the host's network a container has its own host name if that resolves there."""
    named = replace(SPEC.host, extra_hosts={SPEC.name: "127.0.0.1"})

    assert SPEC.name == container_json(replace(SPEC, network="host", host=named))["Hostname"]


@pytest.mark.parametrize(("grace_s", "expected"), [(0, 0), (0.001, 1), (10, 10), (10.5, 11)])
def test_grace(grace_s: float, expected: int) -> None:
    """The grace period is rounded up to whole seconds."""
    assert expected == container_json(replace(SPEC, stop_grace_s=grace_s))["StopTimeout"]


def test_log_params() -> None:
    """Log times keep their nanoseconds, and an empty query asks for the complete log."""
    everything = {"stdout": 1, "stderr": 1, "follow": 0, "timestamps": 0, "tail": "all"}
    query = LogQuery(
        streams="stderr",
        since_ns=1_795_479_425_000_000_001,
        until_ns=5,
        follow=True,
        timestamps=True,
        tail=0,
    )

    assert everything == log_params(LogQuery())
    assert {
        "stdout": 0,
        "stderr": 1,
        "follow": 1,
        "timestamps": 1,
        "tail": 0,
        "since": "1795479425.000000001",
        "until": "0.000000005",
    } == log_params(query)
