"""The facet of OpenLineage runs; the only module that imports OpenLineage's client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attr
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.facet_v2 import RunFacet

if TYPE_CHECKING:
    from collections.abc import Mapping


@attr.define
class TorchXAppRunFacet(RunFacet):
    """The app of a run.

    Args:
        handle: its handle.
        app_id: its id.
        images: image of each role, by id.
        replicas: how each replica ended; empty before that.
    """

    handle: str
    app_id: str
    images: dict[str, str]
    replicas: list[dict[str, Any]]


def lineage_of(told: Mapping[str, object]) -> OperatorLineage[Any, Any]:
    """Return what OpenLineage is told of a task that told this of its app, under its XCom keys."""
    if "app_handle" not in told:
        return OperatorLineage()
    values: Any = told
    facet = TorchXAppRunFacet(
        handle=values["app_handle"],
        app_id=values["app_id"],
        images=values.get("image_ids", {}),
        replicas=values.get("replicas", []),
    )
    return OperatorLineage(run_facets={"torchx_app": facet})
