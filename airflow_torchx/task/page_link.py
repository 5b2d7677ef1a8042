"""The link from a task's details to its tab with the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

#: XCom of the link. Airflow writes it when a task has ended; the task does so after the launch.
LINK_KEY: Final = "_link_TorchXAppLink"


class TorchXAppLink(BaseOperatorLink):
    """Leads to the tab "TorchX" of the task instance, also while the task runs."""

    @property
    def name(self) -> str:
        """The text of the link."""
        return "TorchX app"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's own
        """Return the address of the tab."""
        return page_path(ti_key)


class _TaskInstance(Protocol):
    @property
    def dag_id(self) -> str: ...

    @property
    def run_id(self) -> str: ...

    @property
    def task_id(self) -> str: ...

    @property
    def map_index(self) -> int | None: ...


def page_path(instance: _TaskInstance) -> str:
    """Return the address of a task's tab, relative to the base of Airflow's UI.

    So it is right under a sub-path, whatever a worker knows of the web server.
    """
    names = (instance.dag_id, instance.run_id, instance.task_id)
    dag, run, task = (quote(name, safe="") for name in names)
    index = instance.map_index
    mapped = "" if index is None or index < 0 else f"/mapped/{index}"
    return f"dags/{dag}/runs/{run}/tasks/{task}{mapped}/plugin/torchx-app"
