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
    """Keep the locks of tests apart from those of the host."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_network_is_made_once() -> None:
    """A network that exists is not created again."""
    engine = FakeEngine()

    network.ensure(engine, "torchx")
    network.ensure(engine, "torchx")

    assert 1 == engine.calls.count("create_network")
    assert 1 == len(engine.networks("torchx"))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("lan", "created network 'lan'; it stays when its apps are removed"),
        (
            "brige",
            "created network 'brige' (did you mean 'bridge'?); it stays when its apps are removed",
        ),
    ],
)
def test_a_network_that_is_created_is_logged(
    name: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names a network that did not exist, once, and the network that may be meant."""
    caplog.set_level("INFO", "airflow_torchx.runtime.network")
    engine = FakeEngine()

    network.ensure(engine, name)
    network.ensure(engine, name)

    assert [line] == caplog.messages


@pytest.mark.parametrize("name", ["host", "none", "bridge", "default", "container:abc"])
def test_networks_that_docker_has_are_left_alone(name: str) -> None:
    """Docker's built-in networks cause no request."""
    engine = FakeEngine()

    network.ensure(engine, name)

    assert [] == engine.calls


def test_two_networks_made_at_once_become_one() -> None:
    """If another host creates the same network concurrently, the oldest one stays."""
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
    """A name conflict from a newer Engine is not an error."""
    engine = FakeEngine()
    engine.fail_next("create_network", EngineConflictError("exists"), after=True)

    network.ensure(engine, "torchx")

    assert 1 == len(engine.networks("torchx"))


def test_threads_that_race_make_one_network() -> None:
    """Concurrent threads create one network."""
    engine = FakeEngine(unique_networks=False)
    threads = [threading.Thread(target=network.ensure, args=(engine, "torchx")) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert 1 == engine.calls.count("create_network")


def test_the_lock_is_open_to_every_user(own_lock_folder: Path) -> None:
    """Lock folder and file are writable by every OS user and not sticky."""
    network.ensure(FakeEngine(), "torchx")

    folder = own_lock_folder / "airflow-torchx"
    assert 0o777 == folder.stat().st_mode & 0o7777


def test_a_network_is_created_without_a_lock_folder(
    own_lock_folder: Path,
) -> None:
    """Without a usable lock folder the network is still created."""
    (own_lock_folder / "airflow-torchx").write_text("in the way")
    engine = FakeEngine()

    network.ensure(engine, "torchx")

    assert 1 == len(engine.networks("torchx"))


def test_a_lock_that_is_never_free_stops_no_launch(
    own_lock_folder: Path,
) -> None:
    """A lock that stays taken is given up after its timeout."""
    network.ensure(FakeEngine(), "torchx")
    (name,) = (own_lock_folder / "airflow-torchx").iterdir()
    engine = FakeEngine()

    with filelock.FileLock(name):
        network.ensure(engine, "torchx", lock_timeout_s=0.05)

    assert 1 == len(engine.networks("torchx"))


def test_a_name_that_another_kind_of_network_has() -> None:
    """The error of the engine is raised if the name leads to no network that it lists."""

    class Bridges(FakeEngine):
        """A swarm whose manager has a bridge of each name."""

        def create_network(self, name: str) -> str:
            what = f"cannot create network {name!r}: a network with this name exists."
            raise EngineConflictError(what, fix="Use another name.", status=409)

    with pytest.raises(EngineConflictError, match="cannot create network 'lan'"):
        network.ensure(Bridges(), "lan")
