"""Whether a trigger that Airflow takes away may stop its app; pure.

Airflow calls ``on_kill`` when somebody marks or clears a deferred task, and, against its own
promise, when another triggerer has taken the trigger over (apache/airflow PR #73454). So what the
database says decides.
"""

from __future__ import annotations

from typing import Final

# In these nobody will come back for the app of the try that waited on it.
_OVER: Final = frozenset(
    {"failed", "success", "skipped", "removed", "upstream_failed", "restarting", None}
)


def may_stop(app_id: str, *, state: str | None, current_app_id: str | None) -> bool:
    """Tell whether nobody needs an app any more.

    Args:
        app_id: the app that the trigger waits for.
        state: state of its task instance; None after a clear.
        current_app_id: the app that the task instance itself names, in XCom: every try does so,
            also one that adopts an app; None where it names none.
    """
    return state in _OVER or current_app_id not in (None, app_id)
