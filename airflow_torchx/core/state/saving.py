"""How replicas are asked to save before they are stopped, from the labels of their containers."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, get_args

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import is_cancelled_name, is_saving_name, is_stopped_name
from airflow_torchx.core.plan.option_kinds import CheckpointSignal
from airflow_torchx.core.plan.option_values import one_of, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_torchx.core.engine.containers import ContainerRow

_SIGNAL: Final = one_of(*get_args(CheckpointSignal))


@dataclass(frozen=True, slots=True)
class Saving:
    """The signal that asks replicas of these roles to save, and the seconds that they need.

    ``roles`` is empty for all.
    """

    signal: str
    seconds: float
    roles: frozenset[str] = frozenset()

    @classmethod
    def of(cls, rows: Iterable[ContainerRow]) -> Self | None:
        """Return how the app of these containers is asked to save; None if it is not."""
        for row in rows:
            # Any client can write a label.
            with contextlib.suppress(KeyError, ValueError):
                return cls(
                    _SIGNAL(row.labels[labels.CHECKPOINT_SIGNAL]),
                    seconds(row.labels[labels.CHECKPOINT_S]),
                    _roles(row.labels.get(labels.ESSENTIAL_ROLES, "[]")),
                )
        return None

    def unasked(self, live: Iterable[ContainerRow]) -> list[ContainerRow]:
        """Return the containers that run, and that no client has asked to save or to end."""
        return [
            row
            for row in live
            if row.state == "running"
            and not is_saving_name(row.name)
            and not is_stopped_name(row.name)
            and (not self.roles or row.labels.get(labels.ROLE_NAME) in self.roles)
        ]


def are_saving(live: Sequence[ContainerRow]) -> bool:
    """Return whether containers save, and the client that stops them waits for that."""
    return any(is_saving_name(row.name) and is_cancelled_name(row.name) for row in live)


def _roles(text: str) -> frozenset[str]:
    names = json.loads(text)
    return frozenset(map(str, names) if isinstance(names, list) else ())
