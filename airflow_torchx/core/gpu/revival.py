"""Whether the daemon may start a container again that has just ended.

A daemon that is restarted stops its containers while it still answers, and starts them again by
their restart policies. An inspect does not show whether a user has stopped the container instead.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.plan.identity import is_stopped_name
from airflow_torchx.core.state.describe import exit_code

if TYPE_CHECKING:
    from airflow_torchx.core.engine.containers import ContainerDetail, ContainerRow

#: The status of a container that ended less than a minute ago, by the clock of the daemon.
#: https://github.com/docker/go-units/blob/v0.5.0/duration.go
_RECENTLY: Final = re.compile(r"\) (Less than a second|\d+ seconds?) ago$")


def ended_recently(row: ContainerRow) -> bool:
    """Return whether a container ended less than a minute ago."""
    return row.state == "exited" and _RECENTLY.search(row.status) is not None


def may_be_revived(row: ContainerRow) -> bool:
    """Return whether `is_revived` needs the result of an inspect of a container."""
    return ended_recently(row) and not is_stopped_name(row.name)


def is_revived(row: ContainerRow, detail: ContainerDetail | None) -> bool:
    """Return whether a daemon that is restarted now would start an ended container again.

    https://github.com/moby/moby/blob/v20.10.24/restartmanager/restartmanager.go
    """
    if detail is None or not may_be_revived(row):
        return False
    if detail.restart_policy == "on-failure":
        is_left = detail.max_restarts == 0 or detail.restarts < detail.max_restarts
        return is_left and exit_code(row) != 0
    return detail.restart_policy in {"always", "unless-stopped"}
