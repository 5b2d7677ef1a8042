"""Who may read what: Airflow's own checks of a user's rights on a DAG.

It is the only module that imports ``airflow.api_fastapi``; only the API server imports it.
"""

from __future__ import annotations

from typing import Final

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag

#: Dependencies of routes with ``dag_id`` in their path, which a ``dag_id`` in the query does not
#: replace. They raise HTTPException, with 401 without a login, and with 403 without the right.
may_read_task: Final = requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE)
may_read_log: Final = requires_access_dag("GET", DagAccessEntity.TASK_LOGS)
