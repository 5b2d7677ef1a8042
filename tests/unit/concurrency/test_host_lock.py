"""Locks between the processes of a host."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.concurrency import host_lock
from airflow_torchx.concurrency.parallel import StopRequested

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """\
import sys
from airflow_torchx.concurrency import host_lock
with host_lock.held("test", "key") as locked:
    print(locked, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the locks of tests apart from those of this host."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_lock_excludes_other_processes() -> None:
    """A lock excludes other processes until its holder releases it or dies."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert "True\n" == holder.stdout.readline()

        with host_lock.held("test", "key", timeout_s=0.3) as locked:
            assert not locked
        with host_lock.held("test", "another", timeout_s=0.3) as locked:
            assert locked
        holder.kill()

    with host_lock.held("test", "key", timeout_s=30) as locked:
        assert locked


def test_waiting_can_be_stopped() -> None:
    """A wait for a lock ends when the caller asks to stop."""
    asked = threading.Event()

    def stop() -> bool:
        already = asked.is_set()
        asked.set()
        return already

    def wait() -> None:
        with host_lock.held("test", "key", should_stop=stop):
            pass

    with ThreadPoolExecutor(1) as other, host_lock.held("test", "key") as locked:
        assert locked
        with pytest.raises(StopRequested):
            other.submit(wait).result()


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    """A symbolic link in place of the folder is not followed, so its target keeps its mode."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (tmp_path / "airflow-torchx").symlink_to(private)

    with host_lock.held("test", "key", timeout_s=0.3) as locked:
        assert not locked

    assert 0o700 == stat.S_IMODE(private.stat().st_mode)
    assert [] == list(private.iterdir())


def test_folder_is_writable_by_all(tmp_path: Path) -> None:
    """The folder is writable by all users, regardless of the umask."""
    with host_lock.held("test", "key"):
        assert 0o777 == stat.S_IMODE((tmp_path / "airflow-torchx").stat().st_mode)
