"""Locks between processes of one host."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from airflow_torchx import host_lock
from airflow_torchx.parallel import Stopped

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """\
import sys
from airflow_torchx import host_lock
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

    with host_lock.held("test", "key") as locked:
        assert locked
        with pytest.raises(Stopped), host_lock.held("test", "key", should_stop=stop):
            pass
