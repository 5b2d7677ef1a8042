"""The OpenLineage run facet of an app; the only module that imports OpenLineage's client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attr
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.facet_v2 import RunFacet

if TYPE_CHECKING:
    from collections.abc import Mapping


@attr.define
class TorchXAppRunFacet(RunFacet):
    """Describes the app of a run: image ids by role name, and replicas once they have ended."""

    handle: str
    app_id: str
    images: dict[str, str]
    replicas: list[dict[str, Any]]


def lineage_of(pushed: Mapping[str, object]) -> OperatorLineage[Any, Any]:
    """Return the lineage of a task that pushed these XComs; it is empty without an app."""
    if "app_handle" not in pushed:
        return OperatorLineage()
    values: Any = pushed
    facet = TorchXAppRunFacet(
        handle=values["app_handle"],
        app_id=values["app_id"],
        images=values.get("image_ids", {}),
        replicas=values.get("replicas", []),
    )
    return OperatorLineage(run_facets={"torchx_app": facet})
