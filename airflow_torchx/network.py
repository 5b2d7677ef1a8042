"""One bridge network per daemon, however many processes and hosts ask for it at once."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import filelock

from airflow_torchx.errors import EngineConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.core.containers import NetworkRow
    from airflow_torchx.engine import Engine

_log = logging.getLogger(__name__)

#: Networks that every daemon has, and those that belong to another container.
_BUILT_IN: Final = frozenset({"bridge", "host", "none", "default"})
_LOCK_TIMEOUT_S: Final = 10.0


def ensure(engine: Engine, name: str) -> None:
    """Make sure that exactly one network of this name is on the daemon.

    A file lock keeps the processes of this host in line. It cannot speak for other hosts that use
    the same daemon, and older Engines take two networks of one name: so whoever creates one looks
    again, and all keep the same one, the oldest.

    Args:
        engine: the daemon.
        name: name of a bridge network; built-in networks and ``container:…`` are left alone.
    """
    if name in _BUILT_IN or name.startswith("container:") or engine.networks(name):
        return
    with _locked(f"{engine.info().id}\0{name}"):
        if engine.networks(name):
            return
        with contextlib.suppress(EngineConflictError):
            engine.create_network(name)
        _keep_oldest(engine, engine.networks(name))


def _keep_oldest(engine: Engine, networks: tuple[NetworkRow, ...]) -> None:
    for surplus in sorted(networks, key=lambda row: (row.created_at, row.id))[1:]:
        _log.info("removing network %s: %s was made twice at once", surplus.id[:12], surplus.name)
        engine.remove_network(surplus.id)


@contextlib.contextmanager
def _locked(key: str) -> Iterator[None]:
    """Hold this host's lock for a network of a daemon, as far as that can be had.

    The folder is open to all users and not sticky: where ``fs.protected_regular`` is on, a file of
    somebody else in a sticky folder such as /tmp cannot be opened for locking.
    """
    folder = Path(tempfile.gettempdir()) / "airflow-torchx"
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    lock = filelock.FileLock(folder / f"network-{digest}.lock", _LOCK_TIMEOUT_S, mode=0o666)
    try:
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(PermissionError):
            folder.chmod(0o777)
        lock.acquire()
    except (OSError, filelock.Timeout) as why:
        _log.debug("no lock on %s (%s): relying on the look afterwards", folder, why)
        yield
        return
    try:
        yield
    finally:
        lock.release()
