"""A training with real PyTorch whose task and worker are killed."""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

import docker
import pytest

from airflow_torchx.core.engine import labels
from tests.airflow.killed_tries import Tries
from tests.resumable import last_step

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from airflow_torchx.docker_engine import DockerEngine

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("no_images_left"),
]

STEPS: Final = 120
SAVE_EVERY: Final = 5


def test_a_training_outlives_its_task_its_worker_and_its_host(
    airflow_home: Path, docker_engine: DockerEngine, app_id: str, tmp_path: Path
) -> None:
    """The next try goes on with the containers after a kill of the task, and of its worker.

    If the containers were killed, too, as in a reboot of the host, it launches new ones, which
    continue from the last save.
    """
    assert airflow_home.exists()
    folder = tmp_path / "checkpoints"
    folder.mkdir()

    def containers() -> set[str]:
        return {row.id for row in docker_engine.rows({labels.RUN_ID: app_id})}

    with Tries(app_id, folder, steps=STEPS, save_every=SAVE_EVERY) as tries:
        tries.start()
        tries.wait_for(r"saved step 10\b")
        launched = containers()
        # A new process needs a few seconds, in which the training would end.
        with paused(launched):
            tries.kill_task()
            seen = len(tries.text)
            tries.start()
            tries.wait_for("reattaching to app", seen)
        tries.wait_for(r"reattaching to app(.|\n)*saved step", seen)
        tries.kill_worker()
        assert launched == containers()

        before = killed(launched)
        last = last_step(docker_engine, launched)
        tries.start()
        assert 0 == tries.wait(), tries.text
        assert STEPS == tries.xcoms["return_value"]["step"]
        assert_continued(before, last, tries.text)
    assert set() == containers()


@contextmanager
def paused(ids: Collection[str]) -> Iterator[None]:
    """Pause containers."""
    with closing(docker.from_env()) as client:
        for one in ids:
            client.containers.get(one).pause()
        yield
        for one in ids:
            client.containers.get(one).unpause()


def killed(ids: Collection[str]) -> str:
    """Kill containers, and return all that they have written."""
    with closing(docker.from_env()) as client:
        containers = [client.containers.get(one) for one in ids]
        for one in containers:
            one.kill()
        return "\n".join(one.logs().decode() for one in containers)


def assert_continued(before: str, last: int, text: str) -> None:
    """Check that rank 0 trained all steps, and those of not more than one save again."""
    starts = [int(step) for step in re.findall(r"rank 0 starts after step (\d+) ", text)]
    assert [0, max(starts)] == sorted(set(starts))
    assert last - SAVE_EVERY <= starts[-1] <= last < STEPS
    # The log that ended with a kill can lack its last lines.
    shown = steps_of(before)
    assert list(range(1, len(shown) + 1)) == shown
    assert len(shown) <= last
    again = text.rpartition(f"rank 0 starts after step {starts[-1]} ")[2]
    assert list(range(starts[-1] + 1, STEPS + 1)) == steps_of(again)


def steps_of(text: str) -> list[int]:
    """Return the steps of rank 0 that a text shows, in their order."""
    return [int(step) for step in re.findall(r"rank 0 step (\d+) loss", text)]
