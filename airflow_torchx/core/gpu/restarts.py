"""Which replicas keep their GPUs between two rounds of their app.

The containers of the next round get the same GPUs. So no other app may take them meanwhile: while
the other replicas are stopped, and for a minute after the last end, in which the process that waits
for the app creates the next containers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.revival import ended_recently
from airflow_torchx.core.state.describe import by_app, describe, needing_detail
from airflow_torchx.core.state.restarts import restart_of
from airflow_torchx.core.state.rounds import may_restart, sources_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerDetail, ContainerRow

_RUNS: Final = frozenset({"running", "restarting", "paused", "removing"})


def between_rounds(
    rows: Iterable[ContainerRow], details: Mapping[str, ContainerDetail]
) -> frozenset[str]:
    """Return the ids of ended containers that hold GPUs because their app will be restarted."""
    held: set[str] = set()
    for app_id, of_app in _undecided(rows):
        app = describe(app_id, of_app, details)
        restart = restart_of(app) if app is not None else None
        if restart is not None:
            sources = sources_of(of_app, restart.number)
            held |= {row.id for key, row in sources.items() if key[0] in restart.roles}
    return frozenset(held)


def needs_inspect(rows: Iterable[ContainerRow]) -> Iterator[str]:
    """Yield the ids of the failed containers whose details `between_rounds` needs."""
    for _, of_app in _undecided(rows):
        yield from needing_detail(of_app)


def _undecided(rows: Iterable[ContainerRow]) -> Iterator[tuple[str, Sequence[ContainerRow]]]:
    """Yield the apps with GPUs that may be restarted at this time."""
    for app_id, of_app in by_app(row for row in rows if may_restart([row])).items():
        has_gpus = any(row.labels.get(labels.GPUS) for row in of_app)
        if has_gpus and any(row.state in _RUNS or ended_recently(row) for row in of_app):
            yield app_id, of_app
