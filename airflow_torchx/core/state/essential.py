"""Which roles decide about the state of an app, and which only serve them."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.plan.option_values import seconds
from airflow_torchx.specs import is_terminal

if TYPE_CHECKING:
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

#: Keys of ``DescribeAppResponse.metadata``.
ESSENTIAL_ROLES: Final = "essential_roles"
AUXILIARY_GRACE: Final = "auxiliary_grace_s"


def is_essential(app: DescribeAppResponse, role: str) -> bool:
    """Return whether the end of an app depends on this role; it does in an app without a choice."""
    chosen = _chosen(app)
    return not chosen or role in chosen


def essential_replicas(app: DescribeAppResponse) -> list[ReplicaStatus]:
    """Return the replicas on which the state of an app depends, by role and index."""
    return [
        replica
        for role in app.roles_statuses
        if is_essential(app, role.role)
        for replica in role.replicas
    ]


def unneeded_roles(app: DescribeAppResponse) -> tuple[str, ...]:
    """Return the auxiliary roles that still run although every essential replica has ended."""
    essential = essential_replicas(app)
    if not essential or not all(is_terminal(replica.state) for replica in essential):
        return ()
    return tuple(
        role.role
        for role in app.roles_statuses
        if not is_essential(app, role.role)
        and not all(is_terminal(replica.state) for replica in role.replicas)
    )


def auxiliary_grace(app: DescribeAppResponse) -> float | None:
    """Return the seconds that auxiliary roles get to end; None for those of the launch."""
    with contextlib.suppress(KeyError, ValueError):  # any client can write a label
        return seconds(app.metadata[AUXILIARY_GRACE])
    return None


def _chosen(app: DescribeAppResponse) -> frozenset[str]:
    """Return the essential roles of the label, as far as the app has them.

    Any client can write a label: one without a role of the app counts as none.
    """
    try:
        names = json.loads(app.metadata.get(ESSENTIAL_ROLES, "[]"))
    except (ValueError, RecursionError):
        return frozenset()
    names = names if isinstance(names, list) else []
    return frozenset(role.role for role in app.roles_statuses if role.role in names)
