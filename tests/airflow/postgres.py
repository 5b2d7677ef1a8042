"""A PostgreSQL of the tests' own: its data is thrown away."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.airflow.processes import until
from tests.conftest import do_without

if TYPE_CHECKING:
    from collections.abc import Iterator

# Debian keeps the programs of each version in a folder that is on no PATH.
_DEBIAN: Final = Path("/usr/lib/postgresql")
_SETTINGS: Final = (
    "listen_addresses=",
    "max_connections=200",
    # Nothing of it has to outlive the machine.
    "fsync=off",
    "full_page_writes=off",
    # A scheduler that is killed in a transaction leaves its connection to the tasks that live on,
    # and with it the lock without which the next scheduler starts no task.
    "idle_in_transaction_session_timeout=20s",
)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL, and yield the URL of an empty database for SQLAlchemy.

    It listens on a unix socket only. Without its programs the test is skipped, but in CI it fails.
    """
    folder = _programs()
    # Not in the folder of pytest: the path of a socket must be short, and another user's to enter.
    with tempfile.TemporaryDirectory(prefix="torchx-pg-") as name:
        data, user = Path(name) / "data", _unprivileged()
        if user is not None:
            os.chown(name, user, -1)
        command = [f"{folder}/initdb", f"--pgdata={data}", "--username=airflow", "--auth=trust"]
        subprocess.run(command, user=user, cwd=name, check=True, capture_output=True)
        command = [f"{folder}/postgres", "-D", str(data), "-k", name]
        for setting in _SETTINGS:
            command += ["-c", setting]
        log = Path(name) / "log"
        with log.open("wb") as out:
            server = subprocess.Popen(command, user=user, cwd=name, stdout=out, stderr=out)
        try:
            ready = [f"{folder}/pg_isready", "--host", name, "--quiet"]
            until(lambda: not subprocess.run(ready, check=False).returncode, "PostgreSQL")
            assert server.poll() is None, log.read_text()
            yield f"postgresql+psycopg2://airflow@/postgres?host={name}"
        finally:
            # At once: it ends the connections that are still open.
            server.send_signal(signal.SIGINT)
            server.wait()


def _programs() -> Path:
    """Return the folder of PostgreSQL's programs."""
    debian = sorted(_DEBIAN.glob("*/bin"), key=lambda folder: float(folder.parent.name))
    for folder in (*map(Path, os.get_exec_path()), *reversed(debian)):
        if all(shutil.which(name, path=str(folder)) for name in ("initdb", "postgres")):
            # What the PATH names may be links to some of the programs.
            return (folder / "postgres").resolve().parent
    return do_without("no PostgreSQL: run container/postgres.sh")


def _unprivileged() -> int | None:
    """Return a user who may run PostgreSQL, which refuses to run as root; None if we may."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
