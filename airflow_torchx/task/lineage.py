"""Reports a task's app to OpenLineage if Airflow's OpenLineage provider is installed."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.openlineage.extractors import OperatorLineage

_PARENT: Final = "OPENLINEAGE_PARENT_"


class LineageMixin:
    """Adds the run facet ``torchx_app`` to an operator: handle, images and the end of each replica.

    Airflow's OpenLineage provider calls these methods.
    """

    #: XComs of the task, by key.
    _pushed: Mapping[str, object] = {}

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:  # noqa: ANN401, ARG002 - the provider's signature
        """Return the facet of an app that succeeded."""
        from airflow_torchx.task.lineage_facets import lineage_of

        return lineage_of(self._pushed)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any]:  # noqa: ANN401 - see above
        """Return the facet of an app that failed, or an empty one if no app was launched."""
        return self.get_openlineage_facets_on_complete(task_instance)


def parent_env(ti: Any) -> dict[str, str]:  # noqa: ANN401 - Airflow's task instance
    """Return ``OPENLINEAGE_PARENT_*``, which name this task as the parent run of programs.

    Without the provider, they are those of this process.
    """
    given = {name: value for name, value in os.environ.items() if name.startswith(_PARENT)}
    if find_spec("airflow.providers.openlineage") is None:
        return given
    from airflow.providers.openlineage import conf
    from airflow.providers.openlineage.plugins import macros

    if conf.is_disabled():
        return given
    return {
        f"{_PARENT}JOB_NAMESPACE": macros.lineage_job_namespace(),  # type: ignore[no-untyped-call]
        f"{_PARENT}JOB_NAME": macros.lineage_job_name(ti),
        f"{_PARENT}RUN_ID": macros.lineage_run_id(ti),
    }
