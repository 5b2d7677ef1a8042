"""What a page shows of an app, as JSON data: the XCom ``torchx_app``.

``snapshot.v1.json`` beside this module describes it. A reader ignores fields that it does not know.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.state.blame import blamed_replica
from airflow_torchx.core.state.describe import app_state, has_ended, replicas_of
from airflow_torchx.core.state.essential import essential_replicas, is_essential
from airflow_torchx.core.state.out_of_memory import ran_out_of_memory
from airflow_torchx.specs import NONE, AppState, is_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_torchx.core.state.timeline import Timeline
    from airflow_torchx.core.state.usage import UsageHistory
    from airflow_torchx.core.state.usage_json import Point
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus, ReplicaUsage, RoleStatus

#: XCom key of the newest snapshot; in the state store, ``:`` and the number of the try follow.
SNAPSHOT_KEY: Final = "torchx_app"
SCHEMA: Final = 1
MAX_BYTES: Final = 65_536
#: An app of more replicas shows counts, and those that are not running.
MOST_IN_FULL: Final = 128
_LINES: Final = 20
_CHARACTERS: Final = 300
_ERROR_CHARACTERS: Final = 1_000
# As JSON, a character has up to 12 bytes.
_BYTES_PER_CHARACTER: Final = 6
_MIB: Final = 1 << 20
_FEWEST_POINTS: Final = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The task of an app, and the app's handle.

    Args:
        try_number: number of the try that shows the app.
        epoch: ``ti.max_tries``, which a clear raises and a retry does not.
    """

    handle: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """An app as it was described once, with what was known before.

    Args:
        app: described with ``inspect_all`` if it has ended.
        mask: masks secrets in a text; None leaves the texts of programs and of the daemon out,
            except the names of metrics.
        lines: the last lines of the replica that failed.
    """

    app: DescribeAppResponse
    owner: Owner
    writer: str
    now_s: float
    seq: int
    timeline: Timeline
    usage: UsageHistory
    mask: Callable[[str], str] | None = None
    lines: Sequence[str] = ()


def as_stopped(app: DescribeAppResponse) -> DescribeAppResponse:
    """Return an app that is being stopped as it will be: what still runs is CANCELLED."""
    roles = [
        replace(role, replicas=[_as_stopped(one) for one in role.replicas])
        for role in app.roles_statuses
    ]
    stopped = replace(app, roles_statuses=roles)
    return replace(stopped, state=app_state(one.state for one in essential_replicas(stopped)))


def _as_stopped(replica: ReplicaStatus) -> ReplicaStatus:
    return replica if is_terminal(replica.state) else replace(replica, state=AppState.CANCELLED)


def snapshot(view: View) -> dict[str, Any]:
    """Return what a page shows of an app, in at most `MAX_BYTES`.

    First lines of usage lose points, then they are left out, then replicas are.
    """
    most, usage = MOST_IN_FULL, view.usage.copy()
    has_lines = True
    while True:
        data = _data(view, most, usage if has_lines else None)
        if len(json.dumps(data)) <= MAX_BYTES or most == 0:
            return data
        if has_lines:
            usage.coarsen()
            longest = max((len(usage.line(one)) for one in replicas_of(view.app)), default=0)
            has_lines = longest >= _FEWEST_POINTS
        else:
            most //= 2


def _data(view: View, most: int, lines: UsageHistory | None) -> dict[str, Any]:
    app, owner = view.app, view.owner
    replicas = replicas_of(app)
    blamed = blamed_replica(app)
    chosen = _chosen(replicas, blamed, most)
    times = [view.timeline.of(one) for one in replicas]
    begun = [known[0][0] for known in times if known]
    ended = [known[-1][0] for known in times if known] if has_ended(app) else []
    return {
        "schema": SCHEMA,
        "app_id": app.app_id,
        "handle": owner.handle,
        "attempt": {"try": owner.try_number, "epoch": owner.epoch},
        "state": app.state.name,
        "seq": view.seq,
        "observed_at": round(view.now_s, 2),
        "writer": view.writer,
        "created": min(begun, default=None),
        "finished": max(ended, default=None),
        "n_replicas": len(replicas),
        "truncated": len(chosen) < len(replicas),
        "origin": {
            "dag_id": owner.dag_id,
            "run_id": owner.run_id,
            "task_id": owner.task_id,
            "map_index": owner.map_index,
        },
        "roles": [_role(view, role, chosen, lines) for role in app.roles_statuses],
        "failure": _failure(view, blamed),
        "progress": _progress(view),
    }


def _chosen(
    replicas: Sequence[ReplicaStatus], blamed: ReplicaStatus | None, most: int
) -> set[tuple[str, int]]:
    """Return the replicas to show in full: all, or the ones that tell most."""
    if len(replicas) > most:
        usual = {AppState.RUNNING, AppState.SUCCEEDED}
        odd = [one for one in replicas if one is blamed or one.state not in usual]
        replicas = sorted(odd, key=lambda one: one is not blamed)[:most]
    return {(one.role, one.id) for one in replicas}


def _role(
    view: View, role: RoleStatus, chosen: set[tuple[str, int]], lines: UsageHistory | None
) -> dict[str, Any]:
    images = {one.name: one.image for one in view.app.roles}
    counts = Counter(one.state.name for one in role.replicas)
    return {
        "name": role.role,
        "n": len(role.replicas),
        "image": images.get(role.role, ""),
        "auxiliary": not is_essential(view.app, role.role),
        "counts": dict(sorted(counts.items())),
        "replicas": [
            _replica(view, one, lines) for one in role.replicas if (one.role, one.id) in chosen
        ],
    }


def _replica(view: View, replica: ReplicaStatus, lines: UsageHistory | None) -> dict[str, Any]:
    usage = view.usage.of(replica)
    line = lines.line(replica) if lines else []
    data = {
        "id": replica.id,
        "name": replica.hostname,
        "container": replica.container_id[:12],
        "state": replica.state.name,
        "exit": replica.exit_code,
        "signal": replica.signal,
        "oom": ran_out_of_memory(replica),
        "stalled": replica.stalled,
        "round": replica.round,
        "restarts": max(replica.num_restarts or 0, 0) + replica.round,
        "gpus": list(replica.gpus),
        "error": _text(view, replica.error, _ERROR_CHARACTERS) or None,
        "t": [list(one) for one in view.timeline.of(replica)],
    }
    if usage is not None:
        data |= _usage(usage)
    if line and lines is not None:
        data["usage"] = {**_line(line), "interval_s": lines.step_s, "start": round(lines.start_s)}
    return data


def _usage(usage: ReplicaUsage) -> dict[str, Any]:
    limit = {
        "mem": usage.memory_limit_bytes,
        "cpu": usage.cpus_limit,
        "gpu_mem": usage.gpu_memory_limit_bytes,
    }
    peak = {
        "mem": usage.memory_peak_bytes,
        "cpu": usage.cpus_peak,
        "cpu_s": usage.cpu_s,
        "gpu": usage.gpu_peak_percent,
        "gpu_mem": usage.gpu_memory_peak_bytes,
    }
    return {
        "limit": _known(limit),
        "peak": _known(peak),
        "net": {"rx": usage.received_bytes, "tx": usage.sent_bytes},
    }


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items() if value is not None}


def _line(line: Sequence[Point | None]) -> dict[str, list[float | None]]:
    """Return the points as a list each for CPUs, bytes of memory and percent of a GPU."""
    found: dict[str, list[float | None]] = {
        "cpu": [one and one.cpus for one in line],
        "mem": [
            None if one is None or one.memory_mib is None else one.memory_mib * _MIB for one in line
        ],
        "gpu": [one and one.gpu_percent for one in line],
    }
    return {name: values for name, values in found.items() if any(v is not None for v in values)}


def _failure(view: View, blamed: ReplicaStatus | None) -> dict[str, Any] | None:
    """Return what brought the app down; None while it runs, and after a success."""
    replicas = replicas_of(view.app)
    stopped = sum(one.state is AppState.CANCELLED for one in replicas)
    lines = [_text(view, line) for line in view.lines[-_LINES:]]
    if blamed is None:
        if view.app.state is not AppState.CANCELLED:
            return None
        return {"kind": "cancel", "peers_stopped": stopped, "lines": lines}
    worker = blamed.worker
    structured = blamed.structured_error_msg
    return {
        "role": blamed.role,
        "id": blamed.id,
        # As precise as the times of the replicas, or it could be before the start.
        "at": None if blamed.finished_at is None else round(blamed.finished_at.timestamp(), 2),
        "kind": _kind(blamed),
        "exit": blamed.blamed_exit_code,
        "signal": blamed.signal,
        "rule": blamed.rule or None,
        "worker": worker
        and {
            "rank": worker.rank,
            "exit": worker.exit_code,
            "signal": worker.signal,
            "message": _text(view, worker.message) or None,
        },
        "structured": None if structured == NONE else _text(view, structured),
        "lines": lines,
        "peers_stopped": stopped,
    }


def _kind(blamed: ReplicaStatus) -> str:
    kinds = {
        "oom": ran_out_of_memory(blamed),
        "stalled": blamed.stalled,
        "lost": not blamed.container_id,
        "start": blamed.started_at is None and bool(blamed.error),
        "signal": bool(blamed.signal),
    }
    return next((name for name, holds in kinds.items() if holds), "exit")


def _progress(view: View) -> dict[str, Any] | None:
    """Return how far the program is; None if it does not say so."""
    progress = view.usage.progress
    if progress is None:
        return None
    data = progress.to_json()
    if view.mask is not None:
        data["metrics"] = {view.mask(name): value for name, value in data["metrics"].items()}
    return data


def _text(view: View, text: str, characters: int = _CHARACTERS) -> str:
    """Return the beginning of a text, with secrets masked; empty without a mask.

    It is masked before it is cut: a part of a secret is not found.
    """
    text = view.mask(text)[:characters] if view.mask else ""
    while len(json.dumps(text)) > characters * _BYTES_PER_CHARACTER + len('""'):
        text = text[: len(text) * 3 // 4]
    return text
