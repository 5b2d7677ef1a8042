"""What a daemon and its host are like."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.runtime.daemon_facts import collect
from airflow_torchx.specs import AppDef, BindMount, Role
from airflow_torchx.testing import FakeEngine
from tests.unit.apps import app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def _as_nobody() -> Iterator[None]:
    """Do without root's right to see everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_survey_finds_what_is_missing(tmp_path: Path) -> None:
    """Absent images and bind sources are found; of a remote daemon's host nothing is claimed."""
    wanted = app(mounts=[BindMount(str(tmp_path / "no"), "/x"), BindMount(str(tmp_path), "/y")])
    engine = FakeEngine()

    here = collect(engine, wanted)
    there = collect(FakeEngine(engine_info=replace(engine.info(), is_local=False)), wanted)

    assert frozenset({"busybox"}) == here.absent_images
    assert frozenset({str(tmp_path / "no")}) == here.absent_paths
    assert frozenset() == there.absent_paths


@pytest.mark.parametrize("image", ["../containers", "\udcff", "Busybox", "a b"])
def test_a_survey_asks_for_no_image_that_cannot_be_one(image: str) -> None:
    """The daemon would answer something else; preflight tells what is wrong with it."""
    wanted = AppDef("app", [Role("trainer", image, entrypoint="run")])

    assert frozenset() == collect(FakeEngine(), wanted).absent_images


def test_a_path_that_no_file_can_have_is_absent() -> None:
    """Preflight tells it with everything else."""
    path = f"/{'a' * 5000}"

    assert (
        frozenset({path}) == collect(FakeEngine(), app(mounts=[BindMount(path, "/x")])).absent_paths
    )


def test_of_a_folder_that_is_closed_to_us_nothing_is_claimed(tmp_path: Path) -> None:
    """The daemon may see what is in it."""
    path = str(tmp_path / "closed" / "data")
    (tmp_path / "closed").mkdir(mode=0)
    wanted = app(mounts=[BindMount(path, "/x")])

    with _as_nobody():
        found = collect(FakeEngine(), wanted)

    assert frozenset() == found.absent_paths
