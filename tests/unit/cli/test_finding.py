"""Tests how an app is found by handle, id or prefix."""

from __future__ import annotations

import pytest

from airflow_torchx.cli.finding import find, match
from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.demand import GpuDemand, Marker
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.errors import AppNotFoundError, ConditionError
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.testing import FakeEngine
from tests.unit import apps

APPS = ["trainer-x1", "trainer-x12", "server-y"]


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        ("trainer-x1", "trainer-x1"),
        ("trainer-x12", "trainer-x12"),
        ("ser", "server-y"),
        ("docker://torchx/server-y", "server-y"),
        ("local_docker://torchx/ser", "server-y"),
        ("docker:///s", "server-y"),
        ("local_docker:///server-y", "server-y"),
        ("local_docker://gpus/server-y", "server-y"),
    ],
)
def test_app_is_matched(app: str, expected: str) -> None:
    """A handle, an id or a unique prefix of one matches an app."""
    assert expected == match(app, APPS)


@pytest.mark.parametrize(
    ("app", "texts"),
    [
        ("trainer", ["2 apps: trainer-x1, trainer-x12", "more of the id"]),
        (
            "trainer-x2",
            [
                "no app 'trainer-x2'",
                "Did you mean trainer-x12?",
                "`airflow-torchx list` lists all apps, and `airflow-torchx gpus` those that wait",
            ],
        ),
        ("docker://torchx/trainer", ["2 apps: trainer-x1, trainer-x12", "more of the id"]),
        (
            "docker://gpus/nope",
            ["no app 'nope'", "'gpus' is an Airflow connection", "DOCKER_HOST"],
        ),
    ],
)
def test_app_is_not_matched(app: str, texts: list[str]) -> None:
    """The error suggests other apps."""
    with pytest.raises(AppNotFoundError) as caught:
        match(app, APPS)

    assert [] == [text for text in texts if text not in str(caught.value)]


def marked(engine: FakeEngine, app_id: str, *markers: Marker) -> None:
    """Create containers that stand for an app without replicas."""
    of_app = {labels.GPU_APP: app_id}
    demand = GpuDemand(key="k", count=1, listed=("g",), image="busybox", labels=of_app)
    for marker in markers:
        engine.create(demand.spec(marker, timeout_s=600))


@pytest.mark.parametrize(
    "app",
    ["train-x1", "tra", "docker://torchx/train-x1", "tra/sh/0", "docker://torchx/train-x1/sh/0"],
)
def test_an_app_that_waits_for_gpus(app: str) -> None:
    """An app that is not launched yet is not found, and the error says for what it waits."""
    engine = FakeEngine(images=["busybox"])
    marked(engine, "train-x1", "ticket")

    with pytest.raises(AppNotFoundError, match=r"'train-x1' has waited for GPUs for \d") as caught:
        find(engine, app)

    assert "`airflow-torchx gpus` shows the queue. To end the wait, end" in caught.value.fix


@pytest.mark.parametrize("markers", [("claim",), ("claim", "ticket"), ("ticket", "claim")])
def test_an_app_that_has_claimed_gpus(markers: tuple[Marker, ...]) -> None:
    """An app that is about to start does not wait, and one that was killed needs no care."""
    engine = FakeEngine(images=["busybox"])
    marked(engine, "train-x1", *markers)

    with pytest.raises(AppNotFoundError, match=r"'train-x1' claimed GPUs \d+ s ago, and") as caught:
        find(engine, "train-x1")

    assert "it is about to start, or its process was killed" in caught.value.what
    assert "the next app that needs these GPUs frees them 10 min after" in caught.value.fix


@pytest.mark.parametrize("part", ["trainer", "trainer/0", "trainer/0,1"])
def test_a_part_of_an_app_is_not_an_app(part: str) -> None:
    """A replica does not stand for its app, because a command would then cancel the whole app."""
    engine = FakeEngine(images=["busybox"])
    app_id = DockerScheduler("t", engine).submit(apps.app(), Opts())

    with pytest.raises(AppNotFoundError, match="is not an app, but a part of one") as caught:
        find(engine, f"{app_id}/{part}")
    with pytest.raises(AppNotFoundError, match="no app 'nope/trainer/0'"):
        find(engine, "nope/trainer/0")

    assert f"Write {app_id}. Only `airflow-torchx log`" in caught.value.fix


def test_an_app_that_is_launched_while_its_claim_is_there() -> None:
    """An app with replicas is found, although it also has a container that holds GPUs for it."""
    engine = FakeEngine(images=["busybox"])
    app_id = DockerScheduler("t", engine).submit(apps.app(), Opts())
    marked(engine, app_id, "claim")

    assert app_id == find(engine, app_id) == find(engine, app_id[:-1])


def test_handle_of_another_scheduler() -> None:
    """A handle of another scheduler is rejected."""
    with pytest.raises(ConditionError, match="local_cwd://x/y"):
        match("local_cwd://x/y", APPS)
