"""Which roles decide about the state of an app, and which only serve them."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.plan.option_values import seconds
from airflow_torchx.specs import is_terminal

if TYPE_CHECKING:
    from collections.abc import Collection

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


def chosen_roles(text: str, roles: Collection[str]) -> frozenset[str]:
    """Return those of an app's roles that the text of the label names; empty if all are essential.

    Any client can write a label: one that names no role of the app counts as none.
    """
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return frozenset()
    return frozenset(role for role in roles if isinstance(names, list) and role in names)


def _chosen(app: DescribeAppResponse) -> frozenset[str]:
    roles = [role.role for role in app.roles_statuses]
    return chosen_roles(app.metadata.get(ESSENTIAL_ROLES, "[]"), roles)
