"""Tests of the report of a connection test."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.connection.daemon_report import DaemonReport, LoginCheck
from airflow_torchx.core.engine.containers import EngineInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

INFO: Final = EngineInfo(
    id="a",
    url="tcp://gpu-1:2376",
    is_local=False,
    version="28.2.2",
    api_version="1.50",
    os="Debian",
    cpus=64,
    memory_bytes=3 << 29,
    runtimes=("runc",),
)


def test_a_report_without_problems() -> None:
    """The report has one line each for the daemon, the network and every registry."""
    logins = (LoginCheck(registry="ghcr.io", username="me"),)
    findings = DaemonReport(info=INFO, network="lan", has_network=True, logins=logins)

    assert findings.is_fine
    assert str(findings).splitlines() == [
        (
            "Docker 28.2.2 (API 1.50) on Debian at tcp://gpu-1:2376: 64 CPUs, 1.5 GiB of memory, "
            "no GPU runtime."
        ),
        "Network 'lan' exists.",
        "The files of its host are not visible here: sources of mounts are not checked.",
        "Login to ghcr.io as 'me' succeeded.",
    ]


def test_a_login_that_fails() -> None:
    """The report says why a login failed, and the connection test fails."""
    fine = LoginCheck(registry="ghcr.io", username="me")
    failing = LoginCheck(registry="h:1", username="you", error="unauthorized. Check.")
    findings = DaemonReport(info=INFO, network="lan", has_network=True, logins=(fine, failing))

    assert not findings.is_fine
    assert "Login to h:1 as 'you' failed: unauthorized. Check." == (str(findings).splitlines()[-1])


@pytest.mark.parametrize(
    ("network", "has_network", "expected"),
    [
        ("lan", False, ["Network 'lan' will be created by the first launch."]),
        ("host", True, ["Network 'host' exists."]),
        ("container:a", False, []),
    ],
)
def test_the_network_in_the_report(
    network: str, has_network: bool, expected: Sequence[str]
) -> None:
    """A missing network is not an error, and another container's network is not looked up."""
    info = replace(INFO, is_local=True)
    findings = DaemonReport(info=info, network=network, has_network=has_network)

    assert findings.is_fine
    assert expected == str(findings).splitlines()[1:]


@pytest.mark.parametrize(
    ("runtimes", "gpu_ids", "expected"),
    [
        (("nvidia", "runc"), (), "GPU runtime nvidia."),
        (("nvidia", "runc"), ("0", "1"), "GPU runtime nvidia, GPUs 0, 1."),
        (("runc",), ("0",), "no GPU runtime, GPUs 0."),
    ],
)
def test_gpus_in_the_report(
    runtimes: tuple[str, ...], gpu_ids: tuple[str, ...], expected: str
) -> None:
    """The report lists the GPU runtime and the GPUs; a daemon may have only one of them."""
    info = replace(INFO, runtimes=runtimes, gpu_ids=gpu_ids)

    text = str(DaemonReport(info=info, network="lan", has_network=True))

    assert text.splitlines()[0].endswith(f"GiB of memory, {expected}")


def test_a_manager_of_a_swarm() -> None:
    """The report says how the other nodes are used."""
    info = replace(INFO, swarm_nodes=3)

    lines = str(DaemonReport(info=info, network="lan", has_network=True)).splitlines()

    assert lines[-1] == (
        'It is a manager of a Docker Swarm of 3 nodes: "scheduler": "docker_swarm" in the extra '
        "runs replicas on all of them."
    )
