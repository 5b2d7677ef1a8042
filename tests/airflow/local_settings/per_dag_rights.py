"""An auth manager for the tests, with one user who may read one DAG alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

#: The only DAG of a user.
ONLY: Final = {"ana": "train_nightly"}


class PerDagRights(SimpleAuthManager):
    """Airflow's simple one, but for the users of `ONLY`."""

    def is_authorized_dag(
        self,
        *,
        user: SimpleAuthManagerUser,
        details: DagDetails | None = None,
        **request: Any,  # noqa: ANN401 - passed on
    ) -> bool:
        """Tell whether a user may do something with a DAG, or with any."""
        asked, own = details and details.id, ONLY.get(user.username)
        if asked and own and asked != own:
            return False
        return super().is_authorized_dag(user=user, details=details, **request)
