"""The facts about a daemon and its host."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.plan.options import Opts
from airflow_torchx.runtime import network
from airflow_torchx.runtime.daemon_facts import collect
from airflow_torchx.specs import AppDef, BindMount, Role
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import app, planned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def _as_nobody() -> Iterator[None]:
    """Drop root's right to read every file."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_missing_images_and_paths_are_found(tmp_path: Path) -> None:
    """Absent images and bind sources are found; a remote daemon's host is not checked."""
    wanted = app(mounts=[BindMount(str(tmp_path / "no"), "/x"), BindMount(str(tmp_path), "/y")])
    engine = FakeEngine()

    here = collect(engine, wanted, Opts())
    there = collect(FakeEngine(engine_info=replace(engine.info(), is_local=False)), wanted, Opts())

    assert frozenset({"busybox"}) == here.absent_images
    assert frozenset({str(tmp_path / "no")}) == here.absent_paths
    assert frozenset() == there.absent_paths


@pytest.mark.parametrize("image", ["../containers", "\udcff", "Busybox", "a b"])
def test_an_invalid_image_name_is_not_looked_up(image: str) -> None:
    """An invalid image name is left to preflight and never sent to the daemon."""
    wanted = AppDef("app", [Role("trainer", image, entrypoint="run")])

    assert frozenset() == collect(FakeEngine(), wanted, Opts()).absent_images


def test_an_impossible_path_is_absent() -> None:
    """A path that no file can have counts as absent."""
    path = f"/{'a' * 5000}"

    assert (
        frozenset({path})
        == collect(FakeEngine(), app(mounts=[BindMount(path, "/x")]), Opts()).absent_paths
    )


def test_an_unreadable_folder_is_not_reported(tmp_path: Path) -> None:
    """A path in an unreadable folder is not reported, because the daemon may see it."""
    path = str(tmp_path / "closed" / "data")
    (tmp_path / "closed").mkdir(mode=0)
    wanted = app(mounts=[BindMount(path, "/x")])

    with _as_nobody():
        found = collect(FakeEngine(), wanted, Opts())

    assert frozenset() == found.absent_paths


@pytest.mark.parametrize(
    ("option", "container", "expected"),
    [
        ("network", "up", []),
        ("ipc_mode", "up", []),
        ("network", "created", ["created"]),
        ("ipc_mode", "gone", ["gone"]),
    ],
)
def test_containers_that_the_app_joins(option: str, container: str, expected: list[str]) -> None:
    """A container that the app joins and that does not run is found."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    (spec,) = planned(app(1)).containers
    engine.create(replace(spec, name="created"))
    network.ensure(engine, spec.network)
    engine.start(engine.create(replace(spec, name="up")))

    found = collect(engine, app(1), Opts.parse({option: f"container:{container}"}))

    assert expected == sorted(found.not_running)
