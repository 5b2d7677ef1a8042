"""Locks between the processes of this host, whichever users run them."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import filelock

from airflow_torchx.parallel import Stopped

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
    somebody else in a sticky folder such as /tmp cannot be opened for locking.

    Args:
        kind: what kind of thing it is, for people who look at the folder.
        key: which one it is.
        timeout_s: seconds to wait at most, after which there is no lock; None for no limit.
        should_stop: asked several times a second while waiting.

    Raises:
        Stopped: ``should_stop`` returned True.
    """
    folder = Path(tempfile.gettempdir()) / "airflow-torchx"
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    lock = filelock.FileLock(folder / f"{kind}-{digest}.lock", mode=0o666)
    try:
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(PermissionError):
            folder.chmod(0o777)
        _acquire(lock, timeout_s, should_stop)
    except (OSError, filelock.Timeout) as why:
        _log.debug("no lock on %s (%s): going on without it", folder, why)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _acquire(
    lock: filelock.BaseFileLock, timeout_s: float | None, should_stop: Callable[[], bool]
) -> None:
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if should_stop():
                raise Stopped from None
            if deadline is not None and time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_S)
        else:
            return
