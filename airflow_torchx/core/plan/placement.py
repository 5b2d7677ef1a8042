"""Where the replicas of an app may run on a swarm, and how long they wait for room there."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan import option_values as values
from airflow_torchx.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.core.engine.containers import EngineInfo
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.specs import AppDef

_CONSTRAINT: Final = re.compile(r"([a-z.]+[A-Za-z0-9._/-]*)\s*(==|!=)\s*(\S.*)")
_NODE_LABELS: Final = "node.labels."


def constraints(value: object) -> tuple[str, ...]:
    """Return placement constraints, like ``node.labels.gpu==a100``.

    Raises:
        ValueError: one of them is not a constraint.
    """
    found = values.texts(value)
    for one in found:
        if not _CONSTRAINT.fullmatch(one):
            msg = f"write {one!r} like node.labels.gpu==a100 or node.hostname!=box1"
            raise ValueError(msg)
    return found


def placement_labels(opts: Opts, *, has_gpus: bool) -> dict[str, str]:
    """Return the labels by which any process that waits for the app places it.

    An app with GPUs waits for them as long as on one daemon, unless its user says how long it waits
    on a swarm.
    """
    limit_s = opts.pending_timeout_s
    if limit_s is None and has_gpus:
        limit_s = opts.gpu_wait_timeout_s
    found = {
        labels.CONSTRAINTS: json.dumps(list(opts.constraints)) if opts.constraints else None,
        labels.MAX_PER_NODE: opts.max_replicas_per_node,
        labels.PLACEMENT: opts.placement,
        labels.PENDING_TIMEOUT: limit_s,
    }
    return {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in found.items()
        if value is not None
    }


def placement_conflicts(app: AppDef, opts: Opts) -> Iterator[Problem]:
    """Yield a problem if the replicas of an app cannot be placed by both of two options."""
    count, most = sum(role.num_replicas for role in app.roles), opts.max_replicas_per_node
    if opts.placement == "pack" and most is not None and most < count:
        what = f"'pack' runs all {count} replicas on one node, and max_replicas_per_node is {most}"
        yield Problem("options.placement", what, "leave one of the two options out")


def one_node_problems(app: AppDef, opts: Opts, engine: EngineInfo) -> Iterator[Problem]:
    """Yield a problem for each option of placement that one daemon, which is one node, rules out.

    To pack or to spread is possible on one node, too.
    """
    use_swarm = "use a connection of a swarm, or leave it out"
    for one in opts.constraints:
        match = _CONSTRAINT.fullmatch(one)
        value = _attribute(match[1], engine) if match else None
        if match and value is not None:
            is_equal = value.casefold() == match[3].strip().casefold()
            if is_equal is not (match[2] == "=="):
                has = "has no node labels" if match[1].startswith(_NODE_LABELS) else f"is {value!r}"
                what = f"{one!r} is not met: {engine.url}, which is one daemon, {has}"
                yield Problem("options.constraints", what, use_swarm)
    count, most = sum(role.num_replicas for role in app.roles), opts.max_replicas_per_node
    if most is not None and count > most:
        what = f"{count} replicas are more than {most}, and {engine.url} is one node"
        yield Problem("options.max_replicas_per_node", what, use_swarm)


def _attribute(name: str, engine: EngineInfo) -> str | None:
    """Return what a constraint compares; empty for a node label, None if it is not known."""
    if name.startswith(_NODE_LABELS):
        return ""
    return {"node.hostname": engine.host or None}.get(name)
