"""Whether a trigger that is taken away stops its app."""

from __future__ import annotations

import pytest

from airflow_torchx.core.kill import may_stop

OVER = ("failed", "success", "skipped", "removed", "upstream_failed", "restarting", None)
GOES_ON = ("deferred", "running", "queued", "scheduled", "up_for_retry", "up_for_reschedule")


@pytest.mark.parametrize(
    ("state", "current", "expected"),
    [
        # A user marked the task, or cleared it and the next try has not begun.
        *((state, "app", True) for state in OVER),
        *((state, None, True) for state in OVER),
        # Another triggerer has the trigger now.
        *((state, "app", False) for state in GOES_ON),
        # The next try is on its way and has named no app yet: it will stop what it finds.
        *((state, None, False) for state in GOES_ON),
        # A user cleared the task, and the next try runs an app of its own already.
        *((state, "next", True) for state in (*GOES_ON, *OVER)),
    ],
)
def test_may_stop(state: str | None, current: str | None, *, expected: bool) -> None:
    """Only an app for which nobody will come back is stopped."""
    assert expected is may_stop("app", state=state, current_app_id=current)
