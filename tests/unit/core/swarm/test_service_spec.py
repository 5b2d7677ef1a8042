"""Tests of the services that replicas become."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

import pytest

from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.engine.containers import (
    ContainerSpec,
    GpuRequest,
    HostOptions,
    PortBinding,
    Ulimit,
)
from airflow_torchx.core.plan.identity import (
    TaskAttempt,
    cancelled_name,
    container_name,
    round_name,
)
from airflow_torchx.core.swarm.service_spec import (
    NOWHERE,
    cloned,
    current_name,
    escaped,
    is_started,
    renamed,
    service_json,
    service_name,
    started,
    stopped,
)
from airflow_torchx.specs import BindMount, VolumeMount

SWARM: Final = Swarm(constraints=("node.labels.gpu==a100",))
SPEC: Final = ContainerSpec(
    role="trainer",
    replica=1,
    name="train-x1-trainer-1",
    image="registry/train@sha256:0",
    entrypoint="python",
    args=("-m", "{{ .Task.Slot }}"),
    env={"TEMPLATE": "{{ x }} and {{{{"},
    labels={"torchx.pytorch.org/app-id": "train-x1"},
    network="torchx-swarm",
)


def _container(spec: ContainerSpec) -> dict[str, Any]:
    found: dict[str, Any] = service_json(spec, SWARM)["TaskTemplate"]["ContainerSpec"]
    return found


def test_a_service_does_not_run_before_its_start() -> None:
    """It is created without a task, and is started by the number of its replicas."""
    body = service_json(SPEC, SWARM)

    assert not is_started(body)
    assert is_started(started(body))
    assert {"Mode": "dnsrr"} == body["EndpointSpec"]
    assert "none" == body["TaskTemplate"]["RestartPolicy"]["Condition"]


def test_labels_are_on_the_service_and_on_its_container() -> None:
    """A manager filters by the ones, and docker ps on a node shows the others."""
    body = service_json(SPEC, SWARM)

    assert body["Labels"] == body["TaskTemplate"]["ContainerSpec"]["Labels"]
    assert SPEC.labels.items() <= body["Labels"].items()
    assert SPEC.name == current_name(body["Labels"])


def test_a_name_with_dots_is_no_dns_label() -> None:
    """The service has dashes and a digest; name, host name and alias have the dots."""
    body = service_json(replace(SPEC, name="a.b_c-0"), SWARM)

    assert "a-b_c-0-76a5d092" == body["Name"]
    assert "a.b_c-0" == current_name(body["Labels"])
    assert "a.b_c-0" == body["TaskTemplate"]["ContainerSpec"]["Hostname"]
    assert [{"Target": "torchx-swarm", "Aliases": ["a.b_c-0"]}] == body["TaskTemplate"]["Networks"]
    assert service_name("a-0") == service_name(cancelled_name("a-0"))


@pytest.mark.parametrize("name", ["a.b-0", "a-b.0", "-a.b-0", "a-b-0.", f"{'a' * 62}-r1"])
def test_names_of_services_differ(name: str) -> None:
    """Names that a swarm does not take become different ones that it takes."""
    found = {service_name(one) for one in ("a-b-0", f"{'a' * 62}-r2", f"{'a' * 63}", name)}

    assert 4 == len(found)
    assert all(re.fullmatch("[a-zA-Z0-9][a-zA-Z0-9_-]{0,61}[a-zA-Z0-9]", one) for one in found)


def test_a_round_of_the_longest_name() -> None:
    """The last replica of a task with long names has its number and its round in its name."""
    app_id = TaskAttempt(
        dag_id="d" * 40, run_id="r", task_id="t" * 40, map_index=-1, max_tries=0, try_number=1
    ).app_id
    names = [
        service_name(round_name(container_name(app_id, "r" * 40, 9_999), number))
        for number in range(12)
    ]

    assert 12 == len(set(names))
    assert max(map(len, names)) <= 63


def test_templates_arrive_as_they_are() -> None:
    """Braces in variables are escaped, and those in arguments are not, as Docker reads them."""
    container = _container(SPEC)

    assert ['TEMPLATE={{"{{"}} x }} and {{"{{"}}{{"{{"}}'] == container["Env"]
    assert ["-m", "{{ .Task.Slot }}"] == container["Args"]
    assert "plain" == escaped("plain")


def test_templates_in_mounts_arrive_as_they_are() -> None:
    """A manager expands sources, targets and the labels of volumes, so braces there are escaped."""
    spec = replace(
        SPEC,
        mounts=(BindMount("/a{{b", "/c{{d"), VolumeMount("cache", "/e{{f")),
        host=HostOptions(tmpfs={"/g{{h": "size=1m"}),
        volume_labels={"cache": {"dag": "{{ x }}"}},
    )

    bind, volume, tmpfs = _container(spec)["Mounts"]

    assert ('/a{{"{{"}}b', '/c{{"{{"}}d') == (bind["Source"], bind["Target"])
    assert '/e{{"{{"}}f' == volume["Target"]
    assert {"dag": '{{"{{"}} x }}'} == volume["VolumeOptions"]["Labels"]
    assert '/g{{"{{"}}h' == tmpfs["Target"]


def test_resources_are_limits_and_reservations() -> None:
    """A GPU is reserved only; /dev/shm has the size of the memory."""
    spec = replace(SPEC, nano_cpus=500_000_000, memory_mib=64, gpus=GpuRequest(count=2))

    body = service_json(spec, SWARM)["TaskTemplate"]

    amounts = {"NanoCPUs": 500_000_000, "MemoryBytes": 64 << 20}
    gpus = [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 2}}]
    assert {
        "Limits": amounts,
        "Reservations": {**amounts, "GenericResources": gpus},
    } == body["Resources"]
    shm = {"Type": "tmpfs", "Target": "/dev/shm", "TmpfsOptions": {"SizeBytes": 64 << 20}}  # noqa: S108
    assert [shm] == body["ContainerSpec"]["Mounts"]


def test_without_limits_nothing_is_reserved() -> None:
    """A role without resources takes no room, and keeps Docker's /dev/shm."""
    body = service_json(replace(SPEC, memory_mib=0), SWARM)["TaskTemplate"]

    assert {"Limits": {}, "Reservations": {}} == body["Resources"]
    assert "Mounts" not in body["ContainerSpec"]


def test_options_of_the_host() -> None:
    """What a swarm has a field for is passed on."""
    host = HostOptions(
        user="1000",
        ulimits=(Ulimit(name="memlock", soft=-1, hard=-1),),
        cap_add=("IPC_LOCK",),
        init=True,
        extra_hosts={"db": "10.0.0.9"},
        dns=("10.0.0.2",),
        log_driver="json-file",
        log_options={"max-size": "10m"},
        tmpfs={"/scratch": "size=1m,mode=1777"},
        working_dir="/app",
    )
    mounts = (
        BindMount(src_path="/data", dst_path="/data", read_only=True),
        VolumeMount(src="cache", dst_path="/cache"),
    )
    port = PortBinding(container_port=80, host_port=8080)
    spec = replace(SPEC, host=host, mounts=mounts, ports=(port,), stop_grace_s=1.5)

    body = service_json(spec, SWARM)
    container = body["TaskTemplate"]["ContainerSpec"]

    assert ("1000", "/app", True) == (container["User"], container["Dir"], container["Init"])
    assert [{"Name": "memlock", "Soft": -1, "Hard": -1}] == container["Ulimits"]
    assert (["IPC_LOCK"], ["10.0.0.9 db"]) == (container["CapabilityAdd"], container["Hosts"])
    assert {"Nameservers": ["10.0.0.2"]} == container["DNSConfig"]
    assert 2_000_000_000 == container["StopGracePeriod"]
    assert {"Test": ["NONE"]} == container["Healthcheck"]
    kinds = [(one["Type"], one["Target"]) for one in container["Mounts"]]
    assert [("bind", "/data"), ("volume", "/cache"), ("tmpfs", "/scratch")] == kinds
    assert {"SizeBytes": 1 << 20, "Mode": 0o1777} == container["Mounts"][2]["TmpfsOptions"]
    log = {"Name": "json-file", "Options": {"max-size": "10m"}}
    assert log == body["TaskTemplate"]["LogDriver"]
    assert {"Parallelism": 0} == body["UpdateConfig"]
    published = {"TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}
    assert [published] == body["EndpointSpec"]["Ports"]
    assert {"Constraints": ["node.labels.gpu==a100"]} == body["TaskTemplate"]["Placement"]


def test_the_network_of_the_host_has_no_aliases() -> None:
    """Docker refuses them there, and a host name that would not resolve is left out."""
    body = service_json(replace(SPEC, network="host"), SWARM)["TaskTemplate"]

    assert [{"Target": "host"}] == body["Networks"]
    assert "Hostname" not in body["ContainerSpec"]


def test_a_stop_sends_the_next_task_nowhere() -> None:
    """The new task says why the replica ends; a mere name changes no task."""
    body = started(service_json(SPEC, SWARM))
    name = cancelled_name(SPEC.name)

    ended, named = stopped(body, name), renamed(body, name)

    assert [NOWHERE] == ended["TaskTemplate"]["Placement"]["Constraints"]
    assert name == current_name(ended["TaskTemplate"]["ContainerSpec"]["Labels"])
    assert name == current_name(ended["Labels"]) == current_name(named["Labels"])
    assert body["TaskTemplate"] == named["TaskTemplate"]


def test_a_clone_of_a_stopped_service_may_start() -> None:
    """It has a name, labels and variables of its own, and runs where its app may run."""
    ended = stopped(started(service_json(SPEC, SWARM)), f"{SPEC.name}.restarting")

    clone = cloned(
        ended,
        SWARM,
        name=f"{SPEC.name}-r1",
        labels={"round": "1"},
        env={"TEMPLATE": "{{", "N": "1"},
    )

    container = clone["TaskTemplate"]["ContainerSpec"]
    assert not is_started(clone)
    assert f"{SPEC.name}-r1" == clone["Name"] == current_name(container["Labels"])
    assert clone["Labels"] == container["Labels"]
    assert "1" == container["Labels"]["round"]
    assert ['TEMPLATE={{"{{"}}', "N=1"] == container["Env"]
    assert SPEC.name == container["Hostname"]
    assert list(SWARM.constraints) == clone["TaskTemplate"]["Placement"]["Constraints"]
