"""Which replica brought its app down."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.state.describe import first_failure
from airflow_torchx.core.state.essential import essential_replicas
from airflow_torchx.specs import AppState

if TYPE_CHECKING:
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus, WorkerFailure

#: Errors of a worker that has lost a peer, by gloo, NCCL, PyTorch's store and its rendezvous.
_LOST_PEER: Final = re.compile(
    r"Connection (?:reset|closed|was likely closed)(?: by (?:remote )?peer)?"
    r"|Connection refused|Broken pipe|remote process exit"
    r"|ncclRemoteError|RendezvousClosedError|failed to recv, got 0 bytes"
)
_SECOND: Final = timedelta(seconds=1)
_LATEST: Final = datetime.max.replace(tzinfo=UTC)


def blamed_replica(app: DescribeAppResponse) -> ReplicaStatus | None:
    """Return the replica that brought its app down; None unless an essential one has failed.

    It is the one whose worker failed first, and which did not fail because it lost a peer. This may
    be a replica that was stopped: torchrun can end after a peer that fell because of its worker. It
    is not if the times leave open which worker failed first. Without reports of workers it is
    `describe.first_failure`.
    """
    first = first_failure(app)
    replicas = essential_replicas(app)
    if first is None or all(replica.worker is None for replica in replicas):
        return first
    suspects = sorted(filter(_is_suspect, replicas), key=_rank)
    if suspects[0].state is AppState.CANCELLED:
        latest = _rank(suspects[0], is_latest=True)
        failed = (one for one in suspects if one.state is AppState.FAILED and _rank(one) < latest)
        return next(failed, suspects[0])
    return suspects[0]


def lost_peer(worker: WorkerFailure) -> bool:
    """Return whether a worker failed because a peer did, or because it was asked to stop."""
    return worker.signal == "SIGTERM" or bool(_LOST_PEER.search(worker.message))


def _is_suspect(replica: ReplicaStatus) -> bool:
    if replica.state is AppState.CANCELLED:
        return replica.worker is not None and not lost_peer(replica.worker)
    return replica.state is AppState.FAILED


def _rank(replica: ReplicaStatus, *, is_latest: bool = False) -> tuple[bool, datetime]:
    """Return a key that sorts replicas by their failure, the one that caused the others first.

    torchrun's times have whole seconds. ``is_latest`` takes the end of such a second, and otherwise
    its beginning counts.
    """
    worker = replica.worker
    failed_at = replica.finished_at if worker is None else worker.failed_at or replica.finished_at
    is_echo = worker is not None and lost_peer(worker) and not replica.stalled
    if failed_at is not None and is_latest and not failed_at.microsecond:
        failed_at += _SECOND
    return is_echo, failed_at or _LATEST
