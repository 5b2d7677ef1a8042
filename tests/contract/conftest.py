"""The fixtures for the contract tests of the Engine protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx.testing import FakeNode, FakeSwarm
from tests.conftest import BUSYBOX
from tests.contract.bench import Bench
from tests.contract.swarm_cases import SWARMS, why_out

if TYPE_CHECKING:
    from airflow_torchx.core.engine.protocol import Engine


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not so on a swarm."""
    campaign = bool(config.getoption("campaign"))
    cases = [(one, _engine_of(one)) for one in items]
    out = [one for one, name in cases if name and why_out(one, name, campaign=campaign)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [one for one in items if one not in out]


def _engine_of(item: pytest.Item) -> str:
    """Return the name of the engine of a case; empty for a test that is for one engine."""
    return str(getattr(getattr(item, "callspec", None), "params", {}).get("engine", ""))


@pytest.fixture
def fake_swarm_engine() -> FakeSwarm:
    """Return a fake swarm like that of `hosts`: three nodes of two GPUs, with the tests' image."""
    nodes = [
        FakeNode(f"box{number}", gpus=[f"GPU-{number}{letter}" for letter in "ab"])
        for number in (1, 2, 3)
    ]
    return FakeSwarm(nodes=nodes, images=[BUSYBOX])


@pytest.fixture(
    params=[
        "fake",
        pytest.param("docker", marks=pytest.mark.docker),
        "fake_swarm",
        pytest.param("swarm", marks=[pytest.mark.docker, pytest.mark.xdist_group("swarm")]),
    ]
)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Return a fake and a real daemon, and a fake and a real swarm."""
    found: Engine = request.getfixturevalue(f"{request.param}_engine")
    return found


@pytest.fixture
def bench(engine: Engine, request: pytest.FixtureRequest, app_id: str) -> Bench:
    """Return a bench on each engine."""
    if request.node.callspec.params["engine"] not in SWARMS:
        return Bench(engine, app_id, BUSYBOX)
    # No registry has the image, so a service has it by its id. A swarm has no network `none`, and
    # on an overlay network a replica gets SIGTERM two seconds late.
    return Bench(engine, app_id, engine.find_image(BUSYBOX) or "", network="host", stop_grace_s=1)
