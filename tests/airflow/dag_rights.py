"""An auth manager with rights for each DAG, which Airflow's simple one does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.auth.managers.models.resource_details import (
    DagAccessEntity,
)
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import (
    SimpleAuthManager,
)

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.resource_details import (
        DagDetails,
    )
    from airflow.api_fastapi.auth.managers.simple.user import (
        SimpleAuthManagerUser,
    )


class DagRights(SimpleAuthManager):
    """A user may read the DAG of the same name; ``<name>-without-logs`` may not read its logs."""

    def is_authorized_dag(
        self,
        *,
        user: SimpleAuthManagerUser,
        details: DagDetails | None = None,
        access_entity: DagAccessEntity | None = None,
        **_: Any,  # noqa: ANN401 - the method
    ) -> bool:
        """Return whether a user may read a DAG."""
        name = user.get_name()
        if name.endswith("-without-logs") and access_entity is DagAccessEntity.TASK_LOGS:
            return False
        return details is not None and details.id == name.removesuffix("-without-logs")
