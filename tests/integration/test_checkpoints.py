"""Checkpoints on a real daemon: what replicas find, and what stays."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import docker
import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import HostOptions
from airflow_torchx.core.plan.checkpoint_versions import StoredCheckpoints
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import LaunchError
from airflow_torchx.runtime import checkpoint_sync, folders
from airflow_torchx.runtime.attach import look
from airflow_torchx.runtime.checkpoint_storage import CheckpointStorage
from airflow_torchx.runtime.replica_log import ReplicaLog
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, AppState, Role, VolumeMount
from airflow_torchx.workspace.source import find_filesystem
from tests.conftest import BUSYBOX
from tests.contract.bench import Bench
from tests.contract.script import Script
from tests.integration.second_daemon import running_with_gpus, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.docker


@pytest.fixture
def volume(app_id: str) -> Iterator[str]:
    """Return the name of a volume that does not exist, and that is removed at the end."""
    yield f"{app_id}-models"
    with closing(docker.from_env()) as client:
        client.volumes.get(f"{app_id}-models").remove()


def ran(engine: DockerEngine, name: str, command: str, **options: object) -> list[str]:
    """Run an app of two replicas, of any user, to its end, and return its output."""
    role = Role("worker", BUSYBOX, entrypoint="sh", args=["-ec", command], num_replicas=2)
    scheduler = DockerScheduler("test", engine)
    app_id = scheduler.submit(AppDef(name, [role]), {"user": "1234", **options})
    assert AppState.SUCCEEDED is scheduler.wait(app_id).state
    replicas = look(engine, app_id).roles_statuses[0].replicas
    lines = [line.text for replica in replicas for line in ReplicaLog(engine, replica.container_id)]
    scheduler.delete(app_id)
    return sorted(lines)


WRITE = 'cd "$TORCHX_CHECKPOINT_DIR"; echo "$TORCHX_REPLICA_IDX" > "$TORCHX_REPLICA_IDX"'


def test_a_volume(docker_engine: DockerEngine, app_id: str, volume: str) -> None:
    """Replicas of any user write into one folder, which stays for the next app of that scope."""
    kept = {"checkpoint": volume, "checkpoint_policy": "eager"}
    ran(docker_engine, app_id, WRITE, **kept)

    assert ["0", "0", "1", "1"] == ran(
        docker_engine, app_id, 'cat "$TORCHX_CHECKPOINT_DIR"/*', **kept
    )
    assert [] == ran(docker_engine, app_id, 'ls "$TORCHX_CHECKPOINT_DIR"', checkpoint=volume)
    with closing(docker.from_env()) as client:
        (found,) = client.volumes.list(filters={"label": f"airflow-torchx/checkpoint={volume}"})
    assert volume == found.name


def test_a_host_path(docker_engine: DockerEngine, app_id: str, tmp_path: Path) -> None:
    """A path on the host has the files below folders with readable names; its own mode stays."""
    tmp_path.chmod(0o755)
    ran(docker_engine, app_id, WRITE, checkpoint=str(tmp_path))

    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert ["0", "1"] == sorted(path.name for path in files)
    assert {"apps"} == {path.parts[0] for path in files}
    assert files[0].parts[1].startswith(f"{app_id}-")
    assert 0o755 == tmp_path.stat().st_mode & 0o777


def test_a_url(docker_engine: DockerEngine, app_id: str, tmp_path: Path) -> None:
    """The files of a volume that is gone are in the folder of the next app, for any user."""
    stored = StoredCheckpoints(
        url=f"file://{tmp_path}", scope="a/b", folder="/torchx/checkpoints/a/b", interval_s=1
    )
    bench = Bench(docker_engine, app_id, BUSYBOX)
    storage = CheckpointStorage(find_filesystem, stored)

    def ran(command: str) -> tuple[str, list[str]]:
        """Run a replica of any user on a new volume, and return its id and its lines."""
        spec = replace(
            bench.spec(Script()),
            args=("-ec", f"cd {stored.folder}; {command}"),
            mounts=(VolumeMount(src="", dst_path="/torchx/checkpoints"),),
            host=HostOptions(user="1234"),
        )
        replica = bench.create(spec)
        folders.create(docker_engine, replica, ["/torchx/checkpoints/a", stored.folder])
        checkpoint_sync.fetch(docker_engine, replica, stored, storage, lambda: False)
        docker_engine.start(replica)
        bench.ended(replica)
        return replica, [data.decode() for _, data in bench.log(replica)]

    def upload(replica: str) -> checkpoint_sync.Uploaded:
        return checkpoint_sync.upload(docker_engine, replica, stored, storage, lambda: False)

    first, _ = ran(
        "mkdir sub; head -c 5000000 /dev/zero > large; ln large hard; ln -s large soft;"
        " echo one > sub/x; touch -d '2020-01-01 00:00:00' large"
    )
    done = upload(first)
    assert (3, ("soft",)) == (done.files, done.skipped)
    again = upload(first)
    assert again.copied_bytes in (0, 4)

    second, lines = ran("cat sub/x; ls; rm large; echo two > sub/x; echo 2 > new")
    assert ["one", "hard", "large", "sub"] == "".join(lines).split()
    assert 3 == upload(second).files
    _, lines = ran("cat sub/x new; ls")
    assert ["two", "2", "hard", "new", "sub"] == "".join(lines).split()


def test_the_mode_of_a_folder_stays(
    docker_engine: DockerEngine, app_id: str, tmp_path: Path
) -> None:
    """A later launch leaves the folder of an app as it is, with its owner, mode and files."""
    kept = {"checkpoint": str(tmp_path), "checkpoint_policy": "eager"}
    tmp_path.chmod(0o755)
    ran(docker_engine, app_id, WRITE, **kept)
    (folder,) = {path.parent for path in tmp_path.rglob("*") if path.is_file()}
    folder.chmod(0o700)
    os.chown(folder, 1234, 1234)

    assert ["0", "0", "1", "1"] == ran(
        docker_engine, app_id, 'cat "$TORCHX_CHECKPOINT_DIR"/*', **kept
    )
    found = folder.stat()
    assert (0o700, 1234, 1234) == (found.st_mode & 0o777, found.st_uid, found.st_gid)


def test_a_paused_replica_is_not_asked_to_save(docker_engine: DockerEngine, app_id: str) -> None:
    """A cancel lets the others save; the paused one gets SIGTERM, for which Docker resumes it."""
    script = "trap 'exit 3' USR1; trap 'exit 4' TERM; echo up; while true; do sleep 0.1; done"
    role = Role("worker", BUSYBOX, entrypoint="sh", args=["-c", script], num_replicas=2)
    scheduler = DockerScheduler("test", docker_engine)
    asks = {"checkpoint_signal": "SIGUSR1", "checkpoint_before_timeout_s": 60}
    launched = scheduler.submit(AppDef(app_id, [role]), asks)
    replicas = look(docker_engine, launched).roles_statuses[0].replicas
    for replica in replicas:
        next(iter(ReplicaLog(docker_engine, replica.container_id, follow=True)))
    with closing(docker.from_env()) as client:
        client.containers.get(replicas[1].container_id).pause()

    scheduler.cancel(launched)

    ended = look(docker_engine, launched, inspect_all=True).roles_statuses[0].replicas
    assert [3, 4] == [replica.exit_code for replica in ended]
    scheduler.delete(launched)


@pytest.mark.parametrize("before", ["link", "file"])
def test_a_folder_that_is_something_else(
    docker_engine: DockerEngine, app_id: str, tmp_path: Path, before: str
) -> None:
    """A link or a file with the name of a folder stays, and the launch fails with its path."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "last.pt").write_text("step 7")
    if before == "link":
        (tmp_path / "apps").symlink_to("old")
    else:
        (tmp_path / "apps").write_text("step 8")

    with pytest.raises(LaunchError, match="/torchx/checkpoints/apps") as caught:
        ran(docker_engine, app_id, "true", checkpoint=str(tmp_path))

    assert "a folder for checkpoints is created at this path" in str(caught.value)
    assert "step 7" == (tmp_path / "old" / "last.pt").read_text()
    assert (tmp_path / "apps").is_symlink() is (before == "link")
    assert (tmp_path / "apps").is_file() is (before == "file")
    assert () == docker_engine.rows({labels.APP_ID: None, labels.CHECKPOINT: str(tmp_path)})


def test_a_volume_that_cannot_be_written(
    docker_engine: DockerEngine, app_id: str, volume: str
) -> None:
    """A launch whose volume is read-only says so, and leaves no container."""
    with closing(docker.from_env()) as client:
        read_only = {"type": "tmpfs", "device": "tmpfs", "o": "ro"}
        client.volumes.create(volume, driver_opts=read_only)

    with pytest.raises(LaunchError, match="read-only file system") as caught:
        ran(docker_engine, app_id, "true", checkpoint=volume)

    assert "Make this path writable" in str(caught.value)
    assert () == docker_engine.rows({labels.APP_ID: None, labels.CHECKPOINT: volume})


#: Writes a number, one more each time, after those that it finds.
COUNTS: Final = """
file="$TORCHX_CHECKPOINT_DIR/$TORCHX_REPLICA_IDX"; n=0; [ ! -f "$file" ] || n=$(cat "$file")
echo "starts after $n"
while [ $n -lt {last} ]; do
  n=$((n + 1)); echo $n >"$file.new"; mv "$file.new" "$file"; {pause}
done
"""


@pytest.mark.timeout(180)
def test_a_daemon_that_is_killed(tmp_path: Path) -> None:
    """An app whose daemon was killed has failed, and the next one continues where it saved."""
    kept = {"checkpoint": str(tmp_path), "checkpoint_policy": "eager", "network": "host"}

    def numbers() -> list[int]:
        return [int(one.read_text()) for one in tmp_path.rglob("[01]")]

    def counting(last: int, pause: str) -> AppDef:
        args = ["-c", COUNTS.format(last=last, pause=pause)]
        return AppDef("c", [Role("c", BUSYBOX, entrypoint="sh", args=args, num_replicas=2)])

    with (
        running_with_gpus(()) as daemon,
        DockerEngine.connect(daemon.endpoint) as engine,
    ):
        scheduler = DockerScheduler("test", engine)
        first = scheduler.submit(counting(100_000, "sleep 0.1"), kept)
        wait_until(lambda: [True, True] == [number >= 5 for number in numbers()])
        with daemon.killed():
            assert AppState.FAILED is scheduler.wait(first).state
            reached = sorted(numbers())

            second = scheduler.submit(counting(max(reached), "true"), kept)
            assert AppState.SUCCEEDED is scheduler.wait(second).state
            lines = [next(iter(scheduler.log_iter(second, "c", k))) for k in (0, 1)]
            for app_id in (first, second):
                scheduler.delete(app_id)

    assert reached == sorted(int(line.split()[-1]) for line in lines)
    assert [max(reached)] * 2 == numbers()
