"""One bridge network per daemon, even if many processes and hosts create it at once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency import host_lock
from airflow_torchx.core.engine.containers import BUILT_IN_NETWORKS
from airflow_torchx.errors import EngineConflictError
from airflow_torchx.specs.suggest import nearest

if TYPE_CHECKING:
    from airflow_torchx.core.engine.protocol import Engine

_log = logging.getLogger(__name__)

_LOCK_TIMEOUT_S: Final = 10.0


def ensure(engine: Engine, name: str, lock_timeout_s: float = _LOCK_TIMEOUT_S) -> None:
    """Make sure that exactly one network of this name is on the daemon.

    A file lock serializes the processes of this host. Other hosts may use the same daemon, and
    older Engines accept two networks of one name. So every creator lists again and keeps the oldest
    one. Built-in networks and ``container:…`` are left alone.

    Raises:
        EngineConflictError: the name is taken by a network that the engine does not list.
    """
    if name in BUILT_IN_NETWORKS or name.startswith("container:") or engine.networks(name):
        return
    # If the lock times out, the list afterwards is enough.
    with host_lock.held("network", f"{engine.info().id}\0{name}", timeout_s=lock_timeout_s):
        if engine.networks(name):
            return
        try:
            engine.create_network(name)
        except EngineConflictError:
            # Another client has created it; or, on a swarm, a bridge of a manager has the name.
            if not engine.networks(name):
                raise
        else:
            near = nearest(name, BUILT_IN_NETWORKS)
            hint = f" (did you mean {near!r}?)" if near else ""
            _log.info("created network %r%s; it stays when its apps are removed", name, hint)
        by_age = sorted(engine.networks(name), key=lambda row: (row.created_at, row.id))
        for surplus in by_age[1:]:
            _log.info("removing network %s: %s was created twice", surplus.id[:12], name)
            engine.remove_network(surplus.id)
