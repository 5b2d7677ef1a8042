"""Clones of containers, compared with their originals field by field."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import docker
import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import (
    ContainerSpec,
    GpuRequest,
    HostOptions,
    LogQuery,
    PortBinding,
    Ulimit,
)
from airflow_torchx.specs import BindMount, DeviceMount, VolumeMount
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_torchx.docker_engine import DockerEngine

pytestmark = pytest.mark.docker


@pytest.fixture
def client() -> Iterator[Any]:
    """Return a client of the daemon that inspects without this package."""
    with closing(docker.APIClient()) as client:
        yield client


def spec(app_id: str, network: str, **changes: Any) -> ContainerSpec:  # noqa: ANN401 - any field
    """Return the spec of a container that sleeps."""
    plain = ContainerSpec(
        role="trainer",
        replica=0,
        name=f"{app_id}-trainer-0",
        image=BUSYBOX,
        entrypoint="sh",
        args=("-c", "hostname; echo $TORCHX_RESTART; sleep 600"),
        env={"TORCHX_RESTART": "0", "TOKEN": "a=b c"},
        labels={labels.APP_ID: app_id, "team": "vision"},
        network=network,
    )
    return replace(plain, **changes)


def everything(folder: Path) -> dict[str, Any]:
    """Return a value of each field of a spec that the daemon of the tests can create."""
    return {
        "mounts": (
            BindMount(src_path=str(folder), dst_path="/data", read_only=True),
            VolumeMount(src="", dst_path="/scratch"),
        ),
        "devices": (DeviceMount(src_path="/dev/null", dst_path="/dev/nothing", permissions="r"),),
        "nano_cpus": 500_000_000,
        "memory_mib": 64,
        "gpus": GpuRequest(count=2, device_ids=("GPU-a", "GPU-b")),
        "max_restarts": 2,
        "ports": (PortBinding(container_port=8000, host_port=0),),
        "stop_grace_s": 7.0,
        "host": HostOptions(
            user="65534",
            ipc_mode="private",
            ulimits=(Ulimit(name="nofile", soft=1024, hard=2048),),
            cap_add=("SYS_PTRACE",),
            init=True,
            extra_hosts={"storage": "10.0.0.7"},
            dns=("10.0.0.53",),
            log_driver="json-file",
            log_options={"max-size": "1m"},
            security_opt=("no-new-privileges",),
            tmpfs={"/fast": "size=1m"},
            working_dir="/tmp",  # noqa: S108 - in the container
        ),
    }


@pytest.mark.parametrize("case", ["plain", "everything", "privileged"])
@pytest.mark.parametrize("kind", ["own", "none", "host"])
def test_a_clone_is_configured_like_its_original(  # noqa: PLR0913, PLR0917 - fixtures
    docker_engine: DockerEngine,
    client: Any,  # noqa: ANN401 - Docker's SDK has no types
    app_id: str,
    network_name: str,
    tmp_path: Path,
    case: str,
    kind: str,
) -> None:
    """Only the name, the changed labels and the changed variable differ in `docker inspect`."""
    network = network_name if kind == "own" else kind
    if kind == "own":
        docker_engine.create_network(network)
    changes = {
        "plain": {},
        "everything": everything(tmp_path),
        "privileged": {"host": HostOptions(privileged=True)},
    }[case]
    original = docker_engine.create(spec(app_id, network, **changes))
    if case == "plain":  # the daemon of the tests has no GPUs, and may be in a container
        docker_engine.start(original)
        docker_engine.stop(original, 0)

    clone = docker_engine.clone(
        original,
        name=f"{app_id}-trainer-0-r1",
        labels={labels.REPLICA_ID: "0", "team": "speech"},
        env={"TORCHX_RESTART": "1"},
    )

    before, after = client.inspect_container(original), client.inspect_container(clone)
    assert before["HostConfig"] == after["HostConfig"]
    assert before["Image"] == after["Image"]
    assert before["Path"] == after["Path"]
    assert before["Args"] == after["Args"]
    old, new = before["Config"], after["Config"]
    assert {**old["Labels"], labels.REPLICA_ID: "0", "team": "speech"} == new["Labels"]
    changed = {"TORCHX_RESTART=0": "TORCHX_RESTART=1"}
    assert sorted(changed.get(one, one) for one in old["Env"]) == sorted(new["Env"])
    assert {**old, "Labels": None, "Env": None} == {**new, "Labels": None, "Env": None}
    assert own_endpoints(before) == own_endpoints(after)
    anonymous = {mount["Name"] for mount in before["Mounts"] if mount["Type"] == "volume"}
    assert anonymous.isdisjoint(mount.get("Name") for mount in after["Mounts"])
    assert [mount["Destination"] for mount in sorted_mounts(before)] == [
        mount["Destination"] for mount in sorted_mounts(after)
    ]


def own_endpoints(found: dict[str, Any]) -> dict[str, Any]:
    """Return what a container was given of its networks, without its own id."""
    return {
        name: (
            endpoint["IPAMConfig"],
            endpoint["Links"],
            sorted(set(endpoint["Aliases"] or ()) - {found["Id"][:12]}),
        )
        for name, endpoint in found["NetworkSettings"]["Networks"].items()
    }


def sorted_mounts(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the mounts of a container by path."""
    return sorted(found["Mounts"], key=lambda mount: str(mount["Destination"]))


def test_peers_find_the_clone_under_the_old_name(
    docker_engine: DockerEngine, app_id: str, network_name: str
) -> None:
    """Another container resolves the old host name to the clone, whose own host name it is."""
    docker_engine.create_network(network_name)
    original = docker_engine.create(spec(app_id, network_name))
    clone = docker_engine.clone(original, name=f"{app_id}-trainer-0-r1", labels={}, env={})
    docker_engine.start(clone)
    command = ("-c", f"ping -c 1 {app_id}-trainer-0")
    peer = docker_engine.create(spec(app_id, network_name, name=f"{app_id}-peer", args=command))
    docker_engine.start(peer)

    text = b"".join(docker_engine.logs(peer, LogQuery(follow=True)))
    # The network of the clone answers before its program has written anything.
    with closing(docker_engine.logs(clone, LogQuery(follow=True))) as log:
        first = next(iter(log))

    assert b"1 packets received" in text
    assert f"{app_id}-trainer-0\n".encode() in first


def test_a_clone_has_the_image_although_its_name_has_moved(
    docker_engine: DockerEngine,
    client: Any,  # noqa: ANN401 - Docker's SDK has no types
    app_id: str,
) -> None:
    """A clone has the image of the original: by name, or by id once the name means another one."""
    tag = f"airflow-torchx/{app_id}:tag"
    docker_engine.images.tag(BUSYBOX, tag)
    try:
        original = docker_engine.create(spec(app_id, "none", image=tag))
        by_name = docker_engine.clone(original, name=f"{app_id}-a", labels={}, env={})
        assert tag == client.inspect_container(by_name)["Config"]["Image"]

        moved = docker_engine.images.commit(original, tag, "/")
        by_id = docker_engine.clone(original, name=f"{app_id}-b", labels={}, env={})

        found = client.inspect_container(by_id)
        assert docker_engine.find_image(BUSYBOX) == found["Image"] != moved
    finally:
        docker_engine.images.untag(tag)


def test_a_container_that_joins_the_network_of_another(
    docker_engine: DockerEngine, app_id: str
) -> None:
    """A clone joins the same container's network, and has no host name of its own."""
    server = docker_engine.create(spec(app_id, "none", name=f"{app_id}-server"))
    docker_engine.start(server)
    original = docker_engine.create(spec(app_id, f"container:{server}"))
    docker_engine.start(original)
    docker_engine.stop(original, 0)

    clone = docker_engine.clone(original, name=f"{app_id}-r1", labels={}, env={})
    docker_engine.start(clone)

    detail = docker_engine.inspect(clone)
    assert detail is not None
    assert "running" == detail.state
