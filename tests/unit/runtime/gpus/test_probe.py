"""Looking up GPUs in a container."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime.gpus.probe import probed
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.runtime.gpus.clients import demand

if TYPE_CHECKING:
    from airflow_torchx.core.engine.containers import ContainerSpec
    from airflow_torchx.testing import Verb


def programs(spec: ContainerSpec) -> Program:
    """Return what a container runs: a probe of a killed client hangs."""
    if "-left-" in spec.name:
        return Program(runs_for_s=None)
    return Program(lines=["GPU 0: NVIDIA A100 (UUID: GPU-9f21)"])


@pytest.fixture
def clock() -> ManualClock:
    """Return the clock of the daemon."""
    return ManualClock()


@pytest.fixture
def engine(clock: ManualClock) -> FakeEngine:
    """Return a daemon."""
    return FakeEngine(
        images=["busybox"],
        gpus=1,
        reports_gpus=False,
        programs=programs,
        clock=clock,
        sleep=clock.sleep,
    )


def leave(engine: FakeEngine, age: str) -> None:
    """Leave a probe on the daemon, which runs."""
    probe = replace(demand("app").spec("probe"), name=f"airflow-torchx-gpu-probe-left-{age}")
    engine.start(engine.create(probe))


def names(engine: FakeEngine) -> list[str]:
    """Return the names of all probes."""
    return [row.name for row in engine.rows({labels.GPU_MARKER: "probe"})]


def test_probes_of_clients_that_were_killed(engine: FakeEngine, clock: ManualClock) -> None:
    """A probe removes those that are older than a minute, and leaves those of other clients."""
    leave(engine, "old")
    clock.advance(30)
    leave(engine, "new")
    clock.advance(31)

    found = probed(engine, "a daemon with old probes", "busybox")

    assert {"GPU-9f21": "NVIDIA A100"} == found
    assert ["airflow-torchx-gpu-probe-left-new"] == names(engine)


@pytest.mark.parametrize("verb", ["rows", "remove"])
def test_an_old_probe_that_cannot_be_removed(
    engine: FakeEngine, clock: ManualClock, verb: Verb
) -> None:
    """The probe finds the GPUs all the same."""
    leave(engine, "old")
    clock.advance(61)
    engine.fail_next(verb, EngineError("busy"))

    assert probed(engine, f"a daemon that refuses {verb}", "busybox")

    assert ["airflow-torchx-gpu-probe-left-old"] == names(engine)
