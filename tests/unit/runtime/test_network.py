"""One network per daemon."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import filelock
import pytest

from airflow_torchx.errors import EngineConflictError
from airflow_torchx.runtime import network
from airflow_torchx.testing import FakeEngine

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_torchx.testing import Verb


@pytest.fixture(autouse=True)
def own_lock_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep locks of tests away from those of this host."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_network_is_made_once() -> None:
    """The second time it is there."""
    engine = FakeEngine()

    network.ensure(engine, "torchx")
    network.ensure(engine, "torchx")

    assert 1 == engine.calls.count("create_network")
    assert 1 == len(engine.networks("torchx"))


@pytest.mark.parametrize("name", ["host", "none", "bridge", "default", "container:abc"])
def test_networks_that_docker_has_are_left_alone(name: str) -> None:
    """No call is made for them."""
    engine = FakeEngine()

    network.ensure(engine, name)

    assert [] == engine.calls


def test_two_networks_made_at_once_become_one() -> None:
    """Another host made one between our look and our creation: all keep the oldest."""
    engine = FakeEngine(unique_networks=False)
    made: list[str] = []

    def interfere(verb: Verb, _: str) -> None:
        if verb == "create_network" and not made:
            made.append("")
            made[0] = engine.create_network("torchx")

    engine.before = interfere

    network.ensure(engine, "torchx")

    assert made == [row.id for row in engine.networks("torchx")]


def test_an_engine_that_allows_one_network_only_is_no_error() -> None:
    """Newer Engines refuse the second with a conflict, which is what we want."""
    engine = FakeEngine()
    engine.fail_next("create_network", EngineConflictError("exists"), after=True)

    network.ensure(engine, "torchx")

    assert 1 == len(engine.networks("torchx"))


def test_threads_that_race_make_one_network() -> None:
    """The lock holds within a process as well."""
    engine = FakeEngine(unique_networks=False)
    threads = [threading.Thread(target=network.ensure, args=(engine, "torchx")) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert 1 == engine.calls.count("create_network")


def test_the_lock_is_open_to_every_user(own_lock_folder: Path) -> None:
    """A second OS user must be able to take it: folder and file are writable by all, not sticky."""
    network.ensure(FakeEngine(), "torchx")

    folder = own_lock_folder / "airflow-torchx"
    assert 0o777 == folder.stat().st_mode & 0o7777


def test_without_a_folder_for_locks_the_network_is_made_all_the_same(
    own_lock_folder: Path,
) -> None:
    """A file is where the folder should be: the look afterwards is enough."""
    (own_lock_folder / "airflow-torchx").write_text("in the way")
    engine = FakeEngine()

    network.ensure(engine, "torchx")

    assert 1 == len(engine.networks("torchx"))


def test_a_lock_that_is_never_free_stops_no_launch(
    own_lock_folder: Path,
) -> None:
    """Somebody holds it for ever: after the timeout the network is made without it."""
    network.ensure(FakeEngine(), "torchx")
    (name,) = (own_lock_folder / "airflow-torchx").iterdir()
    engine = FakeEngine()

    with filelock.FileLock(name):
        network.ensure(engine, "torchx", lock_timeout_s=0.05)

    assert 1 == len(engine.networks("torchx"))
