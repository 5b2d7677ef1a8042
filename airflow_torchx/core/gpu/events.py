"""Decides after which events an app that waits for GPUs tries again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.ledger import is_discarded, marker_of
from airflow_torchx.core.state.describe import is_copy

if TYPE_CHECKING:
    from airflow_torchx.core.engine.containers import ContainerEvent

#: A container ended, or one that may never have started was removed.
_ENDS: Final = frozenset({"die", "destroy"})
#: Markers for which no app waits: a client that needs the lock asks for it again and again, and a
#: probe holds no GPU.
_WITHOUT_GPUS: Final = frozenset({"lock", "probe"})


def may_free(event: ContainerEvent) -> bool:
    """Return whether an event may let an app have GPUs, or the next app in the queue."""
    return event.action in _ENDS and not _holds_none(event)


def _holds_none(event: ContainerEvent) -> bool:
    """Return whether the labels and the name of a container show that it held no GPUs.

    A container of another name may have the labels from its image, and other requests for GPUs.
    """
    marker = event.labels.get(labels.GPU_MARKER)
    if marker is not None:
        is_ours = marker_of(event) or is_discarded(event.container_id, event.name)
        return marker in _WITHOUT_GPUS and bool(is_ours)
    is_replica = labels.LAUNCH_ID in event.labels and not is_copy(event)
    return is_replica and event.labels.get(labels.GPUS) == ""
