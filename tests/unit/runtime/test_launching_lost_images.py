"""Launch an app whose image is removed while it waits for GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx.errors import EngineNotFoundError, ImagePullError
from airflow_torchx.runtime import launching
from airflow_torchx.runtime.gpu_allocator import GpuAllocator
from airflow_torchx.specs import Resource
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import app, planned
from tests.unit.runtime.gpus.clients import replica

if TYPE_CHECKING:
    from airflow_torchx.testing import Verb

LOCK = "airflow-torchx-gpu-lock"
TICKET = "airflow-torchx-gpu-ticket-one"


@pytest.fixture
def engine() -> FakeEngine:
    """Return a daemon with a GPU."""
    return FakeEngine(images=["busybox"], gpus=1, programs=Program(runs_for_s=None))


def launch(engine: FakeEngine, *, pull_policy: str = "missing") -> None:
    """Launch an app with one GPU."""
    plan = planned(app(1, resource=Resource(cpu=1, gpu=1, memMB=64)), pull_policy=pull_policy)
    launching.launch(engine, plan, gpus=GpuAllocator(engine, engine.info()))


def prune(engine: FakeEngine) -> None:
    """Remove the image and the ticket once the app waits, and end the app that it waits for."""
    engine.start(engine.create(replica("other", ["GPU-0"])))

    def remove(verb: Verb, _: str) -> None:
        if verb == "rows" and TICKET in engine.specs():
            engine.before = None
            engine.remove("other")
            engine.discard(TICKET)
            engine.images.untag("busybox")

    engine.before = remove


def test_an_image_that_is_removed_while_the_app_waits() -> None:
    """The launch pulls it again, and goes on."""
    programs = Program(runs_for_s=None)
    engine = FakeEngine(images=["busybox"], pullable=["busybox"], gpus=1, programs=programs)
    prune(engine)

    launch(engine)

    assert ["app-1-trainer-0"] == list(engine.specs())
    assert 1 == engine.calls.count("pull")


def test_an_image_that_another_app_has_pulled_again(engine: FakeEngine) -> None:
    """The launch goes on without a pull."""
    engine.fail_next("create", EngineNotFoundError("No such image"), on=LOCK)

    launch(engine)

    assert ["app-1-trainer-0"] == list(engine.specs())
    assert "pull" not in engine.calls


def test_an_image_that_is_removed_and_cannot_be_pulled(engine: FakeEngine) -> None:
    """The launch ends with the error of the pull, and leaves nothing."""
    prune(engine)

    with pytest.raises(ImagePullError, match="cannot pull image busybox"):
        launch(engine)

    assert {} == engine.specs()


def test_an_image_that_is_removed_and_must_not_be_pulled(engine: FakeEngine) -> None:
    """The launch ends with the error of the daemon."""
    prune(engine)

    with pytest.raises(EngineNotFoundError, match="busybox"):
        launch(engine, pull_policy="never")

    assert {} == engine.specs()


def test_a_daemon_that_does_not_find_an_image_that_it_has(engine: FakeEngine) -> None:
    """The launch tries once more, and then ends with the error of the daemon."""
    engine.fail_next("create", EngineNotFoundError("No such image"), on=LOCK, times=9)

    with pytest.raises(EngineNotFoundError, match="No such image"):
        launch(engine)

    assert 2 == engine.calls.count("create")
