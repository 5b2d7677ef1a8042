"""Locks between processes of one host."""

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
    """Keep locks of tests away from those of this host."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_another_process_waits() -> None:
    """Until the first one is done, however it ends."""
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
    """Somebody may kill the task meanwhile."""
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


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    """Another user may have put it there, to have a private folder opened to all."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (tmp_path / "airflow-torchx").symlink_to(private)

    with host_lock.held("test", "key", timeout_s=0.3) as locked:
        assert not locked

    assert 0o700 == stat.S_IMODE(private.stat().st_mode)
    assert [] == list(private.iterdir())


def test_the_folder_is_open_to_all_users(tmp_path: Path) -> None:
    """Whatever the umask of its maker is."""
    with host_lock.held("test", "key"):
        assert 0o777 == stat.S_IMODE((tmp_path / "airflow-torchx").stat().st_mode)
