"""Stopping and removing containers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import docker
import pytest

from airflow_torchx.errors import EngineConflictError
from airflow_torchx.specs import VolumeMount
from tests.conftest import BUSYBOX
from tests.contract.bench import Bench, wait_for
from tests.contract.script import Script

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

GONE = "f" * 64
OBEYS = Script(lines=("ready",), then_s=None)
IGNORES = replace(OBEYS, ignores_term=True)


def test_stop(bench: Bench) -> None:
    """A container that handles SIGTERM exits before its grace period is over."""
    container_id = bench.run_until_it_writes(OBEYS)

    # Longer than the timeout of a test.
    bench.engine.stop(container_id, 600)

    detail = bench.detail(container_id)
    assert ("exited", 143, "") == (detail.state, detail.exit_code, detail.error)


def test_stop_after_grace(bench: Bench) -> None:
    """A container that ignores SIGTERM is killed after the grace period."""
    container_id = bench.run_until_it_writes(IGNORES)

    bench.engine.stop(container_id, 0.2)

    assert ("exited", 137) == (
        bench.detail(container_id).state,
        bench.detail(container_id).exit_code,
    )


def test_stop_without_grace(bench: Bench) -> None:
    """A container that ignores SIGTERM is killed at once if there is no grace period."""
    container_id = bench.run_until_it_writes(IGNORES)

    bench.engine.stop(container_id, 0)

    assert 137 == bench.detail(container_id).exit_code


def test_stop_in_parallel(bench: Bench) -> None:
    """Several threads can stop containers at the same time."""
    ids = [bench.run_until_it_writes(OBEYS) for _ in range(4)]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda container_id: bench.engine.stop(container_id, 600), ids))

    assert {"exited"} == {row.state for row in bench.rows()}


def test_signal(bench: Bench) -> None:
    """A container that handles a signal does what it does for it."""
    container_id = bench.run_until_it_writes(replace(OBEYS, after_usr1=5))

    bench.engine.signal(container_id, "SIGUSR1")

    bench.ended(container_id)
    assert 5 == bench.detail(container_id).exit_code


def test_signal_without_a_handler(bench: Bench) -> None:
    """Process 1 of a container ignores a signal that it does not handle."""
    container_id = bench.run_until_it_writes(OBEYS)

    bench.engine.signal(container_id, "SIGUSR1")
    bench.engine.stop(container_id, 600)

    assert 143 == bench.detail(container_id).exit_code


def test_signal_prevents_a_restart(bench: Bench) -> None:
    """The daemon does not restart a container that ends after a signal of a client."""
    script = replace(OBEYS, after_usr1=5)
    container_id = bench.run_until_it_writes(replace(bench.spec(script), max_restarts=3))

    bench.engine.signal(container_id, "SIGUSR1")

    bench.ended(container_id)
    assert ("exited", 0) == (
        bench.detail(container_id).state,
        bench.detail(container_id).restarts,
    )


@pytest.mark.parametrize("state", ["created", "exited", "gone"])
def test_signal_without_a_run(bench: Bench, state: str) -> None:
    """A signal to a container that does not run, or does not exist, does nothing."""
    container_id = GONE
    if state != "gone":
        container_id = (bench.create if state == "created" else bench.run_to_its_end)(Script())

    bench.engine.signal(container_id, "SIGUSR1")

    assert (state == "gone") == (bench.engine.inspect(container_id) is None)


@pytest.mark.parametrize("state", ["created", "exited"])
def test_stop_without_a_run(bench: Bench, state: str) -> None:
    """Stopping a container that does not run changes nothing."""
    container_id = (bench.create if state == "created" else bench.run_to_its_end)(Script())
    before = bench.detail(container_id)

    bench.engine.stop(container_id, 1)

    assert before == bench.detail(container_id)


def test_stop_gone(bench: Bench) -> None:
    """Stopping a removed container is allowed."""
    bench.engine.stop(GONE, 1)

    assert () == bench.rows()


def test_stop_ends_restarts(bench: Bench) -> None:
    """A container that is stopped between two runs is not restarted."""
    script = Script(lines=("try",), exit_code=1)
    container_id = bench.run(replace(bench.spec(script), max_restarts=50))
    wait_for(lambda: bench.detail(container_id).restarts > 0)

    bench.engine.stop(container_id, 1)

    # Without the stop, it would be restarting.
    assert "exited" == bench.detail(container_id).state


@pytest.mark.parametrize("script", [Script(), IGNORES])
def test_remove(bench: Bench, script: Script) -> None:
    """A container is gone when remove returns, whether it ran or not."""
    container_id = (bench.run_until_it_writes if script.lines else bench.create)(script)

    bench.engine.remove(container_id)

    assert () == bench.rows()
    assert bench.engine.inspect(container_id) is None


def test_remove_gone(bench: Bench) -> None:
    """Removing a removed container is allowed."""
    bench.engine.remove(GONE)

    assert () == bench.rows()


def test_remove_at_once(bench: Bench) -> None:
    """Several threads can remove the same container at the same time."""
    container_id = bench.run(Script(then_s=None))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(bench.engine.remove, [container_id] * 4))

    wait_for(lambda: bench.rows() == ())
    assert bench.engine.inspect(container_id) is None


@pytest.mark.parametrize("state", ["created", "exited"])
def test_discard(bench: Bench, state: str) -> None:
    """A container that does not run is gone when discard returns True."""
    container_id = (bench.create if state == "created" else bench.run_to_its_end)(Script())

    assert bench.engine.discard(container_id)

    assert () == bench.rows()
    assert bench.engine.inspect(container_id) is None


def test_discard_gone(bench: Bench) -> None:
    """Discarding a container that does not exist returns False."""
    assert not bench.engine.discard(GONE)


def test_discard_running(bench: Bench) -> None:
    """A running container is not discarded, and keeps running."""
    container_id = bench.run(Script(then_s=None))

    name = bench.row(container_id).name
    with pytest.raises(
        EngineConflictError, match=f"container {name}: .*\\n.*rm (--force )?{name}`"
    ):
        bench.engine.discard(container_id)

    assert "running" == bench.row(container_id).state


def test_discard_at_once(bench: Bench) -> None:
    """Of several threads that discard the same container, one removes it."""
    container_id = bench.create(Script())

    with ThreadPoolExecutor(4) as threads:
        removed = list(threads.map(bench.engine.discard, [container_id] * 4))

    assert [False] * 3 + [True] == sorted(removed)


@pytest.mark.docker
def test_remove_anonymous_volume(docker_engine: DockerEngine, app_id: str) -> None:
    """Removing a container removes its anonymous volumes."""
    bench = Bench(docker_engine, app_id, BUSYBOX)
    spec = replace(bench.spec(Script()), mounts=(VolumeMount(src="", dst_path="/data"),))
    container_id = bench.run_to_its_end(spec)
    with closing(docker.APIClient()) as client:
        volume = client.inspect_container(container_id)["Mounts"][0]["Name"]
        assert client.inspect_volume(volume)

        docker_engine.remove(container_id)

        with pytest.raises(docker.errors.NotFound):
            client.inspect_volume(volume)
