"""What a test of a connection tells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.connection.daemon_report import Findings, LoginCheck
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


def test_all_is_fine() -> None:
    """One line for the daemon, one for the network, and one for each registry."""
    logins = (LoginCheck(registry="ghcr.io", username="me"),)
    findings = Findings(info=INFO, network="lan", has_network=True, logins=logins)

    assert findings.is_fine
    assert str(findings).splitlines() == [
        (
            "Docker 28.2.2 (API 1.50) on Debian at tcp://gpu-1:2376: 64 cpus, 1.5 GiB of memory, "
            "no GPU runtime."
        ),
        "Network 'lan' is there.",
        "Registry ghcr.io takes the login of 'me'.",
    ]


def test_a_login_that_fails() -> None:
    """It is told why, and the connection is not fine."""
    fine = LoginCheck(registry="ghcr.io", username="me")
    failing = LoginCheck(registry="h:1", username="you", why="unauthorized. Check.")
    findings = Findings(info=INFO, network="lan", has_network=True, logins=(fine, failing))

    assert not findings.is_fine
    assert (
        "Registry h:1 does not take the login of 'you': unauthorized. Check."
        == (str(findings).splitlines()[-1])
    )


@pytest.mark.parametrize(
    ("network", "has_network", "expected"),
    [
        ("lan", False, ["Network 'lan' is not there yet: the first launch makes it."]),
        ("host", True, ["Network 'host' is there."]),
        ("container:a", False, []),
    ],
)
def test_network(network: str, has_network: bool, expected: Sequence[str]) -> None:
    """One that is missing is no fault, and that of another container is not looked for."""
    findings = Findings(info=INFO, network=network, has_network=has_network)

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
def test_gpus(runtimes: tuple[str, ...], gpu_ids: tuple[str, ...], expected: str) -> None:
    """The runtime and the GPUs: a daemon may know either without the other."""
    info = replace(INFO, runtimes=runtimes, gpu_ids=gpu_ids)

    text = str(Findings(info=info, network="lan", has_network=True))

    assert text.splitlines()[0].endswith(f"GiB of memory, {expected}")
