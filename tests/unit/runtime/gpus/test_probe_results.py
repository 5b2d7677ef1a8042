"""Finding the GPUs of a daemon from inside a container."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine import labels
from airflow_torchx.errors import EngineError, EngineUnreachableError
from airflow_torchx.runtime.gpus.probe import NoGpuDriver, probed
from airflow_torchx.testing import FakeEngine, Program

if TYPE_CHECKING:
    from airflow_torchx.core.engine.containers import ContainerSpec
    from airflow_torchx.testing import Verb

LISTED = Program(lines=["GPU 0: NVIDIA T4 (UUID: GPU-a)", "GPU 1: NVIDIA T4 (UUID: GPU-b)"])
FOUND = {"GPU-a": "NVIDIA T4", "GPU-b": "NVIDIA T4"}
_NUMBERS = itertools.count()


@pytest.fixture
def daemon_id() -> str:
    """Return the id of a daemon that was not probed before."""
    return f"daemon {next(_NUMBERS)} of the tests of probes"


def daemon(program: Program) -> FakeEngine:
    """Return a daemon whose containers run a program in place of nvidia-smi."""
    return FakeEngine(images=["busybox"], gpus=2, reports_gpus=False, programs=program)


def test_what_nvidia_smi_lists(daemon_id: str) -> None:
    """The probe has all GPUs and the owner's labels, is not listed as an app, and is removed."""
    engine = daemon(LISTED)
    seen: list[ContainerSpec] = []

    def note(verb: Verb, _: str) -> None:
        if verb == "start":
            seen.extend(engine.specs().values())

    engine.before = note

    assert FOUND == probed(engine, daemon_id, "busybox", owner={labels.DAG_ID: "d"})
    (spec,) = seen
    assert spec.gpus is not None
    assert (-1, "nvidia-smi", ("-L",)) == (spec.gpus.count, spec.entrypoint, spec.args)
    assert ("d", "probe", "") == tuple(
        spec.labels[name] for name in (labels.DAG_ID, labels.GPU_MARKER, labels.GPUS)
    )
    assert {} == engine.specs()


def test_a_probe_that_takes_a_moment(daemon_id: str) -> None:
    """It is read once it has ended."""
    engine = daemon(replace(LISTED, runs_for_s=0.01))

    assert FOUND == probed(engine, daemon_id, "busybox")


def test_a_daemon_is_probed_once(daemon_id: str) -> None:
    """What was found is kept; a daemon on which nothing was found is probed again."""
    nothing, engine = daemon(Program(exit_code=1)), daemon(LISTED)

    assert {} == probed(nothing, daemon_id, "busybox")
    assert FOUND == probed(engine, daemon_id, "busybox")
    engine.calls.clear()
    assert FOUND == probed(engine, daemon_id, "busybox")
    assert [] == engine.calls


@pytest.mark.parametrize("verb", ["create", "start", "inspect", "logs"])
def test_a_probe_that_fails_finds_nothing(daemon_id: str, verb: Verb) -> None:
    """An image without nvidia-smi raises nothing and leaves nothing."""
    engine = daemon(LISTED)
    engine.fail_next(verb, EngineError('exec: "nvidia-smi": executable file not found in $PATH'))

    assert {} == probed(engine, daemon_id, "busybox")
    assert {} == engine.specs()


DOCKER_29 = "failed to discover GPU vendor from CDI: no known GPU vendor found"


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (
            FakeEngine(images=["busybox"]),
            'could not select device driver "" with capabilities: [[gpu]]',
        ),
        (daemon(Program(start_error=f"cannot start it: {DOCKER_29}.")), DOCKER_29),
    ],
    ids=["before Docker 29", "since Docker 29"],
)
def test_a_host_without_gpus(daemon_id: str, engine: FakeEngine, message: str) -> None:
    """The daemon's message is passed on, and nothing is left."""
    with pytest.raises(NoGpuDriver) as caught:
        probed(engine, daemon_id, "busybox")

    assert message == str(caught.value)
    assert {} == engine.specs()


@pytest.mark.parametrize("verb", ["create", "start", "inspect", "logs"])
def test_a_daemon_that_does_not_answer(daemon_id: str, verb: Verb) -> None:
    """An outage is not taken for a host without GPUs."""
    engine = daemon(LISTED)
    engine.fail_next(verb, EngineUnreachableError("gone"))

    with pytest.raises(EngineUnreachableError):
        probed(engine, daemon_id, "busybox")

    assert {} == engine.specs()


def test_a_probe_that_is_stopped(daemon_id: str) -> None:
    """It stops as soon as it is asked to, and leaves nothing."""
    engine = daemon(Program(runs_for_s=None))

    with pytest.raises(StopRequested):
        probed(engine, daemon_id, "busybox", should_stop=lambda: True)

    assert {} == engine.specs()
