"""Locks between the processes of this host, whichever users run them."""

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
    """Hold this host's lock for a thing, as far as that can be had, and tell whether it was.

    The folder is open to all users and not sticky: where ``fs.protected_regular`` is on, a file of
    somebody else in a sticky folder such as /tmp cannot be opened for locking. A link in its place
    is not followed: whoever put it there would choose which folder of ours is opened to all.

    Args:
        kind: what kind of thing it is, for people who look at the folder.
        key: which one it is.
        timeout_s: seconds to wait at most, after which there is no lock; None for no limit.
        should_stop: asked several times a second while waiting.

    Raises:
        StopRequested: ``should_stop`` returned True.
    """
    # Late: it imports asyncio, and most processes never lock anything.
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
    except OSError as why:  # `filelock.Timeout` is one, and so is a cancelled wait
        if isinstance(why, filelock.Timeout) and should_stop():
            raise StopRequested from None
        _log.debug("no lock on %s (%s): going on without it", folder, why)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def scope() -> str:
    """Return a word that all processes have in common which these locks hold apart, and no others.

    Not all of a host do: with TMPDIR, or with PrivateTmp of systemd, some have a folder of their
    own. And two hosts may have one name.
    """
    try:
        status = _folder().stat()
        place = f"{status.st_dev}\0{status.st_ino}"
    except OSError:
        place = ""
    return hashlib.sha256(f"{platform.node()}\0{place}".encode()).hexdigest()[:8]


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / "airflow-torchx"


def _open_to_all(folder: Path) -> None:
    """Make the folder of the locks; it is opened to all by whoever owns it."""
    folder.mkdir(exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if status.st_uid == os.geteuid():
        folder.chmod(0o777)
