"""Parsing responses of the Engine API."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from airflow_torchx.core.engine.containers import (
    ContainerDetail,
    ContainerRow,
    GpuRequest,
    NetworkRow,
)
from airflow_torchx.core.engine.images import ImageDetail, ImageRow
from airflow_torchx.core.engine.times import parse_time
from airflow_torchx.docker_engine import responses

URL: Final = "unix:///var/run/docker.sock"


def test_row() -> None:
    """A row has the container's own name, not the name of a link."""
    body = {
        "Id": "abc",
        "Names": ["/other/alias", "/own"],
        "Image": "img",
        "State": "exited",
        "Status": "Exited (0) 1 second ago",
        "Labels": {"k": "v"},
        "Created": 1_795_479_425,
    }

    assert ContainerRow(
        id="abc",
        name="own",
        image="img",
        state="exited",
        status="Exited (0) 1 second ago",
        labels={"k": "v"},
        created_at=datetime(2026, 11, 24, 0, 17, 5, tzinfo=UTC),
    ) == responses.container_row(body)


def test_row_of_removed_container() -> None:
    """A container that is removed while it is listed gives a row with empty fields."""
    row = responses.container_row({"Id": "abc", "Names": None, "Labels": None, "State": "removing"})

    assert ("abc", "", {}, "removing") == (row.id, row.name, row.labels, row.state)


BEFORE: Final = "2026-11-24T00:17:05.089075123Z"
STARTED: Final = "2026-11-24T00:17:05.123456789Z"
STARTED_AT: Final = datetime(2026, 11, 24, 0, 17, 5, 123456, UTC)
NEVER: Final = "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (
            {"Status": "created", "ExitCode": 127, "StartedAt": NEVER, "FinishedAt": NEVER},
            (None, None, None),
        ),
        (
            {"Status": "running", "ExitCode": 0, "StartedAt": STARTED, "FinishedAt": NEVER},
            (None, STARTED_AT, None),
        ),
        (
            {"Status": "running", "ExitCode": 0, "StartedAt": STARTED, "FinishedAt": STARTED},
            (None, STARTED_AT, None),
        ),
        (
            {"Status": "exited", "ExitCode": 137, "StartedAt": STARTED, "FinishedAt": STARTED},
            (137, STARTED_AT, STARTED_AT),
        ),
        (
            {"Status": "restarting", "ExitCode": 1, "StartedAt": STARTED, "FinishedAt": STARTED},
            (1, STARTED_AT, STARTED_AT),
        ),
    ],
)
def test_detail(state: dict[str, Any], expected: tuple[object, ...]) -> None:
    """Exit code and end time are those of the last run; both are None before it ends."""
    detail = responses.container_detail({"Id": "abc", "State": state})

    assert expected == (detail.exit_code, detail.started_at, detail.finished_at)


def test_a_run_that_ends_at_once() -> None:
    """A run does not end before its start, although the Engine may say so of a short one."""
    state = {"Status": "exited", "ExitCode": 1, "StartedAt": STARTED, "FinishedAt": BEFORE}

    detail = responses.container_detail({"Id": "abc", "State": state})

    assert (STARTED_AT, STARTED_AT) == (detail.started_at, detail.finished_at)


def test_detail_of_failure() -> None:
    """The Engine's error and OOM flag of a failed container are kept."""
    state = {
        "Status": "exited",
        "ExitCode": 137,
        "OOMKilled": True,
        "Error": "no such file",
        "StartedAt": STARTED,
        "FinishedAt": STARTED,
    }

    assert ContainerDetail(
        id="abc",
        state="exited",
        exit_code=137,
        oom_killed=True,
        error="no such file",
        restarts=2,
        started_at=STARTED_AT,
        finished_at=STARTED_AT,
    ) == responses.container_detail({"Id": "abc", "State": state, "RestartCount": 2})


@pytest.mark.parametrize(
    ("host_config", "expected"),
    [
        (None, ("", 0)),
        ({"RestartPolicy": {"Name": "", "MaximumRetryCount": 0}}, ("", 0)),
        ({"RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}}, ("", 0)),
        ({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}, ("on-failure", 3)),
        ({"RestartPolicy": {"Name": "unless-stopped"}}, ("unless-stopped", 0)),
    ],
)
def test_restart_policy(host_config: dict[str, Any] | None, expected: tuple[str, int]) -> None:
    """Both names of Docker for no restarts are empty."""
    state = {"Status": "created"}
    body = {"Id": "abc", "State": state, "HostConfig": host_config}

    detail = responses.container_detail(body)

    assert expected == (detail.restart_policy, detail.max_restarts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        (NEVER, None),
        ("2026-11-24T00:17:05Z", datetime(2026, 11, 24, 0, 17, 5, tzinfo=UTC)),
        ("2026-11-24T00:17:05.5Z", datetime(2026, 11, 24, 0, 17, 5, 500_000, UTC)),
        (STARTED, STARTED_AT),
        ("2026-11-24T02:17:05.123456789+02:00", STARTED_AT),
    ],
)
def test_time(text: str | None, expected: datetime | None) -> None:
    """Nanoseconds are truncated to microseconds, and Docker's zero time is None."""
    assert expected == parse_time(text)


@pytest.mark.parametrize("tags", [None, [], ["<none>:<none>"]])
def test_image_without_a_name(tags: list[str] | None) -> None:
    """An image may have no tags and no labels, in any of Docker's notations."""
    body = {"Id": "sha256:1", "RepoTags": tags, "Labels": None, "Created": 5}

    assert ImageRow(id="sha256:1", tags=(), labels={}, created_s=5.0) == responses.image_row(body)


@pytest.mark.parametrize(
    "config", [None, {}, {"User": "", "WorkingDir": "", "Volumes": None, "OnBuild": None}]
)
def test_image_without_a_configuration(config: dict[str, Any] | None) -> None:
    """An image may have an empty configuration, or none."""
    body = {"Id": "sha256:1", "Config": config}

    assert ImageDetail(id="sha256:1") == responses.image_detail(body)


def test_network() -> None:
    """A network without a creation time sorts as the oldest."""
    made = {"Id": "n", "Name": "torchx", "Created": STARTED}

    assert NetworkRow(id="n", name="torchx", created_at=STARTED_AT) == responses.network_row(made)
    assert 1970 == responses.network_row({**made, "Created": NEVER}).created_at.year


def test_info() -> None:
    """A daemon is local if its URL is a socket, its host's name is ours, and we can see it."""
    body = {
        "ID": "id",
        "Name": socket.gethostname(),
        "ServerVersion": "28.2.2",
        "OperatingSystem": "Debian GNU/Linux 12",
        "NCPU": 2,
        "MemTotal": 3,
    }

    def is_local(url: str, *, is_visible: bool = True, **changes: str) -> bool:
        info = responses.engine_info(
            {**body, **changes}, url=url, api_version="1.50", is_visible=is_visible
        )
        assert ("id", url, "28.2.2", "1.50") == (info.id, info.url, info.version, info.api_version)
        assert ("Debian GNU/Linux 12", 2, 3, ()) == (
            info.os,
            info.cpus,
            info.memory_bytes,
            info.gpu_ids,
        )
        return info.is_local

    assert [True, False, False, False] == [
        is_local(URL),
        is_local(URL, is_visible=False),
        is_local(URL, Name="another"),
        is_local("tcp://localhost:2375"),
    ]


@pytest.mark.parametrize(("more", "expected"), [({}, False), ({"BuildahVersion": "1.37"}, True)])
def test_podman(more: dict[str, str], expected: bool) -> None:
    """Podman is recognized by the version of Buildah that it adds to Docker's fields."""
    body = {"ID": "id", "ServerVersion": "5.2.0", **more}

    assert expected == responses.engine_info(body, url=URL, api_version="1.41").is_podman


@pytest.mark.parametrize(
    ("more", "expected"),
    [({}, False), ({"CDISpecDirs": []}, False), ({"CDISpecDirs": ["/etc/cdi"]}, True)],
    ids=["Docker 24", "Docker 25", "Docker 28.2"],
)
def test_cdi(more: dict[str, list[str]], *, expected: bool) -> None:
    """A daemon that can use CDI lists the folders of its specifications."""
    body = {"ID": "id", "ServerVersion": "28.2.0", **more}

    assert expected == responses.engine_info(body, url=URL, api_version="1.41").has_cdi


@pytest.mark.parametrize(
    ("swarm", "expected"),
    [
        ({"LocalNodeState": "active", "ControlAvailable": True, "Nodes": 3, "Managers": 1}, 3),
        ({"LocalNodeState": "active", "ControlAvailable": False}, 0),
        (None, 0),
    ],
)
def test_nodes_of_a_swarm(swarm: dict[str, Any] | None, expected: int) -> None:
    """A manager knows how many nodes its swarm has."""
    info = responses.engine_info({"ID": "id", "Swarm": swarm}, url=URL, api_version="1.50")

    assert expected == info.swarm_nodes


def test_gpus_of_info() -> None:
    """The GPUs of a daemon come with their kind."""
    devices = [{"Source": "cdi", "ID": "nvidia.com/gpu=GPU-1"}]

    info = responses.engine_info(
        {"ID": "id", "DiscoveredDevices": devices}, url=URL, api_version="1.50"
    )

    assert (("GPU-1",), "nvidia.com/gpu") == (info.gpu_ids, info.gpu_kind)


def test_gpus_of_detail() -> None:
    """The detail of a container has the GPUs that it requested."""
    requests = [{"Driver": "", "Count": 2, "DeviceIDs": None, "Capabilities": [["gpu"]]}]
    state = {"Status": "created", "StartedAt": NEVER, "FinishedAt": NEVER}

    def gpus(config: dict[str, Any] | None) -> tuple[GpuRequest, ...]:
        found = responses.container_detail({"Id": "abc", "State": state, "HostConfig": config})
        return found.gpus

    assert (GpuRequest(count=2),) == gpus({"DeviceRequests": requests})
    assert [()] * 3 == [gpus({"DeviceRequests": None}), gpus({}), gpus(None)]
