"""Tasks whose apps save before the timeout, and continue in the next try."""

from __future__ import annotations

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import docker
import pytest

from airflow_torchx import triggers
from airflow_torchx.core.engine import labels
from airflow_torchx.errors import AppFailedError
from airflow_torchx.runtime.watch import Watches
from tests.airflow.apps import both_modes, shell, up
from tests.airflow.gate import Gate, Hold, Kind, daemon_socket
from tests.airflow.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.one_task import OneTask

pytestmark = pytest.mark.docker

#: Saves and ends after the signal; with a checkpoint, it is complete.
SAVES: Final = """
file="$TORCHX_CHECKPOINT_DIR/$TORCHX_REPLICA_IDX"
[ ! -f "$file" ] || exit 0
trap 'echo "I save"; echo 1 >"$file"; exit 3' USR1
echo up
while true; do sleep 0.1; done
"""


@pytest.fixture
def _asked_once_up(
    docker_engine: DockerEngine, app_id: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Hold the first request of a save until two programs handle its signal.

    Else Linux drops it if a launch takes until then.
    """

    def let_go(hold: Hold) -> None:
        hold.wait()
        wanted: dict[str, str | None] = {labels.DAG_ID: app_id}
        until(lambda: up(docker_engine, wanted) == [True, True], "two programs")
        hold.release()

    # The path of a socket must be short.
    with (
        tempfile.TemporaryDirectory() as folder,
        Gate(Path(folder) / "d", daemon_socket()) as gate,
        ThreadPoolExecutor(1) as pool,
    ):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{gate.path}")
        # A trigger leaves none on a daemon that is gone with this test.
        monkeypatch.setattr(triggers, "_WATCHES", Watches(linger_s=0))
        releasing = pool.submit(let_go, gate.hold(Hold(Kind.RENAME)))
        yield
        releasing.result()


@both_modes
@pytest.mark.usefixtures("_asked_once_up")
def test_a_try_that_times_out_is_continued(
    one_task: OneTask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Replicas are asked to save before the timeout of a try, and the next try continues there."""
    caplog.set_level("INFO")

    ended = one_task.run(
        app=shell(SAVES),
        checkpoint=tmp_path,
        options={"checkpoint_signal": "SIGUSR1", "checkpoint_before_timeout_s": 296},
        execution_timeout=timedelta(seconds=300),
        retries=1,
        retry_delay=timedelta(0),
    )

    assert "success" == ended.state
    assert isinstance(ended.error, AppFailedError)
    assert 3 == ended.error.exit_code
    assert "sent SIGUSR1 to 2 replicas of app" in caplog.text
    saved = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert ["0", "1"] == sorted(path.name for path in saved)
    assert 1 == len({path.parent for path in saved})
    assert [] == ended.rows


def test_a_save_that_takes_as_long_as_a_try(
    one_task: OneTask, capsys: pytest.CaptureFixture[str]
) -> None:
    """The task warns if the replicas cannot be asked before the timeout."""
    ended = one_task.run(
        app=shell("true"),
        options={"checkpoint_signal": "SIGUSR1", "checkpoint_before_timeout_s": 60},
        execution_timeout=timedelta(seconds=60),
    )

    assert "success" == ended.state
    printed = capsys.readouterr().out
    assert "checkpoint_before_timeout_s (60) is not less than execution_timeout" in printed


#: Saves and fails; with a checkpoint, it is complete.
FAILS_ONCE: Final = """
file="$TORCHX_CHECKPOINT_DIR/$TORCHX_REPLICA_IDX"
[ ! -f "$file" ] || exit 0
echo 1 >"$file"; sleep 1; exit 3
"""


def lose_volumes(url: str, log: Path, _: object) -> None:
    """Remove the volumes of a URL that no container uses, and write their names into a file."""
    with closing(docker.from_env()) as client:
        for volume in client.volumes.list(filters={"label": f"airflow-torchx/checkpoint={url}"}):
            with suppress(docker.errors.APIError):
                volume.remove()
                with log.open("a") as file:
                    file.write(f"{volume.name}\n")


@both_modes
def test_a_try_continues_where_another_daemon_saved(one_task: OneTask, tmp_path: Path) -> None:
    """A try whose daemon does not have the volume continues with the files of the URL."""
    url, log = f"file://{tmp_path}/kept", tmp_path / "removed"

    ended = one_task.run(
        app=shell(FAILS_ONCE),
        checkpoint=url,
        options={"failure_policy": "wait_all"},
        pre_execute=partial(lose_volumes, url, log),
        retries=1,
        retry_delay=timedelta(0),
    )
    removed = log.read_text().splitlines()
    lose_volumes(url, log, None)

    assert "success" == ended.state
    assert isinstance(ended.error, AppFailedError)
    assert 1 == len(removed)
    # The task has removed the second one, as the URL has all its files.
    assert removed == log.read_text().splitlines()
    (pointer,) = tmp_path.rglob("latest")
    assert ["0", "1"] == sorted(json.loads(pointer.read_text())["files"])
    assert [] == ended.rows
