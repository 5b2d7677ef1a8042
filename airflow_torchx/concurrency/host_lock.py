"""Locks between all processes of this host, including those of other users."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import platform
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import StopRequested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_log = logging.getLogger(__name__)

_POLL_S: Final = 0.1


@contextlib.contextmanager
def held(
    kind: str,
    key: str,
    *,
    timeout_s: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[bool]:
    """Hold a lock of this host during the block, and yield whether it could be acquired.

    The folder of the lock files is writable by all users and not sticky: with
    ``fs.protected_regular``, other users' files in a sticky folder such as /tmp cannot be opened
    for locking. If it is a symbolic link, no lock is acquired: its creator could make us change the
    mode of any folder of ours.

    ``kind`` is what the lock protects, ``key`` which one of that kind. With ``timeout_s=None``, the
    wait has no limit. While it waits, ``should_stop`` is called several times a second.

    Raises:
        StopRequested: ``should_stop`` returned True.
    """
    # Imported late: it imports asyncio, and most processes never lock.
    import filelock

    folder = _folder()
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    lock = filelock.FileLock(folder / f"{kind}-{digest}.lock", mode=0o666)
    try:
        _open_to_all(folder)
        lock.acquire(
            timeout=-1 if timeout_s is None else timeout_s,
            poll_interval=_POLL_S,
            cancel_check=should_stop,
        )
    except OSError as error:  # includes filelock.Timeout, also of a cancelled wait
        if isinstance(error, filelock.Timeout) and should_stop():
            raise StopRequested from None
        _log.debug("cannot lock %s (%s); continuing without the lock", folder, error)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def scope() -> str:
    """Return an id of the set of processes that share these locks.

    With TMPDIR or systemd's PrivateTmp, processes of one host may have different folders; and two
    hosts may have the same name.
    """
    try:
        status = _folder().stat()
        inode = f"{status.st_dev}\0{status.st_ino}"
    except OSError:
        inode = ""
    return hashlib.sha256(f"{platform.node()}\0{inode}".encode()).hexdigest()[:8]


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / "airflow-torchx"


def _open_to_all(folder: Path) -> None:
    """Create the folder of the lock files; its owner makes it writable by all."""
    folder.mkdir(exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if status.st_uid == os.geteuid():
        folder.chmod(0o777)
