"""The XComs of a task that are about its app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.report import replica_name
from airflow_torchx.specs import NONE, to_dict
from airflow_torchx.task.context import CONTAINERS_KEY, PROGRESS_KEY, REPLICAS_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.specs import DescribeAppResponse


def replicas_for_xcom(app: DescribeAppResponse) -> list[object]:
    """Return the XCom that says how each replica ended, without TorchX's mark for no value."""
    found = (to_dict(replica).items() for replica in replicas_of(app))
    return [{key: value for key, value in named if value != NONE} for named in found]


def container_ids(app: DescribeAppResponse) -> dict[str, str]:
    """Return the container of each replica, by its name."""
    return {replica_name(one): one.container_id for one in replicas_of(app)}


def final_xcoms(
    ended: DescribeAppResponse, progress: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Return the XComs of an app that has ended; restarts have replaced its containers."""
    found: dict[str, object] = {REPLICAS_KEY: replicas_for_xcom(ended)}
    if any(one.round for one in replicas_of(ended)):
        found[CONTAINERS_KEY] = container_ids(ended)
    if progress is not None:
        found[PROGRESS_KEY] = progress
    return found
