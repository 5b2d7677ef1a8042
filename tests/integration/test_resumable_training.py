"""A training with real PyTorch saves before it is stopped, and continues where it was."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import docker
import pytest

from airflow_torchx.components import dist
from airflow_torchx.core.state.rounds import round_of
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.replica_log import ReplicaLog
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, AppState
from tests import pages
from tests.airflow.processes import PATIENCE_S
from tests.integration.second_daemon import running_with_gpus
from tests.integration.uv_project import BASE
from tests.resumable import last_step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

CODE: Final = pages.ROOT / "dags" / "resumable"
SAVE_EVERY: Final = 5


@dataclass(frozen=True)
class Run:
    """What a run has written, and its last step, which a log that ends with a kill can lack."""

    text: str
    last: int

    @property
    def start(self) -> int:
        """The step of the checkpoint with which it began."""
        return int(re.findall(r"rank 0 starts after step (\d+)", self.text)[0])

    @property
    def saved(self) -> int:
        """The last step that was saved."""
        return max(map(int, re.findall(r"saved step (\d+)", self.text)), default=self.start)


class Bench:
    """Runs the example in two replicas, whose checkpoints stay in a folder of this host."""

    def __init__(self, engine: DockerEngine, name: str, folder: str) -> None:
        self.engine = engine
        self.scheduler = DockerScheduler("test", engine)
        self._name = name
        self._folder = folder
        self.app_id = ""

    def launch(
        self,
        *args: str,
        env: dict[str, str] | None = None,
        max_retries: int = 0,
        **options: object,
    ) -> None:
        """Launch the training, which takes a tenth of a second for each step."""
        app = dist.ddp(
            *("--save-every", str(SAVE_EVERY), "--step-s", "0.1", *args),
            script="/code/train.py",
            name=self._name,
            image=BASE,
            j="2x1",
            cpu=1,
            max_retries=max_retries,
            env={"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", **(env or {})},
            mounts=["type=bind", f"src={CODE}", "dst=/code", "readonly"],
        )
        cfg = {"checkpoint": self._folder, "checkpoint_policy": "eager", **options}
        self.app_id = self.scheduler.submit(AppDef(self._name, app.roles), cfg)

    def text(self) -> str:
        """Return what the replicas have written so far."""
        texts = ["".join(self.scheduler.log_iter(self.app_id, "train", k)) for k in (0, 1)]
        return "".join(texts)

    def run_of(self, number: int) -> Run:
        """Return what the replicas have done in one round."""
        rows = lifecycle.rows_of(self.engine, self.app_id)
        ids = [row.id for row in rows if round_of(row) == number]
        text = "\n".join(line.text for one in ids for line in ReplicaLog(self.engine, one))
        return Run(text, last_step(self.engine, ids))

    def wait_for(self, pattern: str) -> None:
        """Wait until a replica has written a text."""
        deadline = time.monotonic() + PATIENCE_S
        while not re.search(pattern, text := self.text()):
            assert time.monotonic() < deadline, text
            assert not self.has_ended(), text
            time.sleep(0.2)

    def has_ended(self) -> bool:
        """Return whether no replica runs."""
        found = lifecycle.observe(self.engine, self.app_id)
        return found is not None and found.state.name not in {"SUBMITTED", "PENDING", "RUNNING"}

    def end(self) -> Run:
        """Wait for the end of the app, remove it, and return what its replicas have done."""
        self.scheduler.wait(self.app_id, PATIENCE_S)
        run = self.run_of(0)
        self.scheduler.delete(self.app_id)
        return run


@pytest.fixture
def bench(docker_engine: DockerEngine, app_id: str, tmp_path: Path) -> Bench:
    """Return a bench with an empty folder."""
    return Bench(docker_engine, app_id, str(tmp_path))


def _kill_worker(bench: Bench) -> None:
    """Kill the process of rank 1, in whichever container it is."""
    with closing(docker.from_env()) as client:
        for row in lifecycle.rows_of(bench.engine, bench.app_id):
            log = client.containers.get(row.id).logs().decode()
            if found := re.search(r"rank 1 starts .* in process (\d+)", log):
                client.containers.get(row.id).exec_run(["bash", "-c", f"kill -9 {found[1]}"])


def _kill_container(bench: Bench) -> None:
    """Kill the container of replica 1."""
    with closing(docker.from_env()) as client:
        client.containers.get(lifecycle.rows_of(bench.engine, bench.app_id)[0].id).kill()


def test_a_training_that_is_killed_continues(bench: Bench) -> None:
    """A step that was saved is never trained again, whichever process is killed."""
    kills: list[Callable[[Bench], None]] = [_kill_worker, _kill_container]
    last = 0
    for kill in kills:
        bench.launch("--steps", "1000")
        bench.wait_for(rf"saved step {last // SAVE_EVERY * SAVE_EVERY + 2 * SAVE_EVERY}\n")
        kill(bench)
        ended = bench.end()

        assert last - SAVE_EVERY <= ended.start <= last
        last = ended.last

    bench.launch("--steps", str(last + 3))
    assert AppState.SUCCEEDED is bench.scheduler.wait(bench.app_id, PATIENCE_S).state
    ended = bench.end()
    assert last - SAVE_EVERY <= ended.start <= last
    assert last + 3 == ended.saved


def test_a_training_that_is_asked_to_save_loses_no_step(bench: Bench) -> None:
    """After a checkpoint signal under torchrun, the next run begins with the very last step."""
    bench.launch("--steps", "1000", "--save-s", "3", checkpoint_signal="SIGUSR1")
    bench.wait_for("saved step")
    bench.scheduler.cancel(bench.app_id)
    ended = bench.end()

    assert f"rank 0 ends after step {ended.last}: SIGUSR1" in ended.text
    assert ended.last == ended.saved
    bench.launch("--steps", str(ended.last + 1))
    assert ended.last == bench.end().start


@pytest.mark.parametrize(
    ("save_s", "grace_s", "env"),
    [(45, 60, {}), (4, 10, {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "1"})],
    ids=["derived", "too short"],
)
def test_a_save_after_sigterm_needs_the_time_of_torchrun(
    bench: Bench, save_s: int, grace_s: int, env: dict[str, str]
) -> None:
    """A save that is shorter than the grace period completes if torchrun leaves its workers time.

    45 s are longer than torchrun's own 30 s. A value that the user set wins, also a short one.
    """
    is_derived = not env
    bench.launch("--steps", "1000", "--save-s", str(save_s), env=env, stop_grace_s=grace_s)
    bench.wait_for("saved step")
    bench.scheduler.cancel(bench.app_id)
    ended = bench.end()

    assert is_derived == (f"rank 0 ends after step {ended.last}: SIGTERM" in ended.text)
    assert is_derived == (ended.last == ended.saved)


def test_a_training_outlives_its_daemon(app_id: str) -> None:
    """An app that is restarted when its daemon is killed goes on, at most one save behind.

    A daemon that starts stops the containers that outlived it, unless it has live-restore. The
    image takes 20 s to copy.
    """
    with running_with_gpus(()) as daemon, ThreadPoolExecutor(1) as pool:
        daemon.bring_image(BASE)
        with DockerEngine.connect(daemon.endpoint) as engine:
            bench = Bench(engine, app_id, f"{app_id}-models")
            bench.launch("--steps", "60", max_retries=1)
            ended = pool.submit(bench.scheduler.wait, bench.app_id, PATIENCE_S)
            bench.wait_for(rf"saved step {2 * SAVE_EVERY}\n")
            with daemon.killed():
                assert AppState.SUCCEEDED is ended.result().state
                before, after = bench.run_of(0), bench.run_of(1)

    assert 2 * SAVE_EVERY <= before.last < 60
    assert before.last - SAVE_EVERY <= after.start <= before.last
    assert 60 == after.saved
