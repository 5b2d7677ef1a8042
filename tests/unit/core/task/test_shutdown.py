"""Tests of what happens to an app when its task or trigger is stopped."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from airflow_torchx.core.task.arguments import OnFinish, OnWorkerShutdown, ids_of, positive
from airflow_torchx.core.task.shutdown import (
    UNKNOWN,
    ExitAction,
    after_deferral,
    after_error,
    before_deferral,
    exit_action,
    is_resuming,
    may_stop,
)

DEFER, KEEP, STOP = OnWorkerShutdown.DEFER, OnWorkerShutdown.KEEP, OnWorkerShutdown.STOP


@pytest.mark.parametrize("policy", OnWorkerShutdown)
@pytest.mark.parametrize("retry_left", [True, False])
@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed", "restarting", None])
def test_the_app_of_a_stopped_task_is_stopped(
    state: str | None,
    retry_left: bool,
    policy: OnWorkerShutdown,
) -> None:
    """An app whose task a user stopped is stopped, whatever the policy for worker shutdowns is."""
    assert ExitAction.STOP is exit_action(state, policy, retry_left=retry_left)


@pytest.mark.parametrize(
    ("policy", "retry_left", "expected"),
    [
        (DEFER, True, ExitAction.HAND_OVER),
        (DEFER, False, ExitAction.HAND_OVER),
        (KEEP, True, ExitAction.KEEP),
        (KEEP, False, ExitAction.STOP),  # no later try would stop it
        (STOP, True, ExitAction.STOP),
        (STOP, False, ExitAction.STOP),
    ],
)
def test_the_policy_decides_on_a_worker_shutdown(
    policy: OnWorkerShutdown,
    retry_left: bool,
    expected: ExitAction,
) -> None:
    """If the task is still running, the policy decides."""
    assert expected is exit_action("running", policy, retry_left=retry_left)


@pytest.mark.parametrize("state", ["queued", "scheduled", "deferred", "up_for_retry"])
def test_an_app_of_another_process_is_kept(state: str) -> None:
    """An app whose task instance another process owns is kept, whatever the policy is."""
    assert ExitAction.KEEP is exit_action(state, STOP, retry_left=False)


def test_an_unknown_state() -> None:
    """Without an answer, the app is kept if the task has another try, else stopped."""
    assert ExitAction.KEEP is exit_action(UNKNOWN, DEFER, retry_left=True)
    assert ExitAction.STOP is exit_action(UNKNOWN, DEFER, retry_left=False)


ENDED = ("failed", "success", "skipped", "removed", "upstream_failed", "restarting", None)
TAKEN = ("queued", "scheduled", "deferred", "up_for_retry", "up_for_reschedule")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("running", ExitAction.HAND_OVER),
        (UNKNOWN, ExitAction.HAND_OVER),
        *((state, ExitAction.KEEP) for state in TAKEN),
        *((state, ExitAction.STOP) for state in ENDED),
    ],
)
def test_only_a_running_task_defers(state: str | None, expected: ExitAction) -> None:
    """A task that another attempt has replaced keeps its app, and an ended task stops it."""
    assert expected is before_deferral(state)


@pytest.mark.parametrize("is_replaced", [True, False])
@pytest.mark.parametrize("retry_left", [True, False])
@pytest.mark.parametrize(
    ("state", "kept_if"),
    [
        *((state, "always") for state in TAKEN),
        *((state, "never") for state in ENDED),
        ("running", "another attempt follows"),
        (UNKNOWN, "another attempt follows"),
    ],
)
def test_an_error_of_airflow_keeps_the_app(
    state: str | None, kept_if: str, retry_left: bool, is_replaced: bool
) -> None:
    """The app is kept unless a user ended or cleared the task, or no attempt is left."""
    kept = {"always": True, "never": False}.get(kept_if, retry_left or is_replaced)
    expected = ExitAction.KEEP if kept else ExitAction.STOP

    assert expected is after_error(
        state, retry_left=retry_left, is_durable=True, is_replaced=is_replaced
    )


@pytest.mark.parametrize("state", ["running", UNKNOWN, *TAKEN, *ENDED])
def test_an_app_that_no_attempt_reattaches_to_is_stopped(state: str | None) -> None:
    """The app is stopped if ``durable=False``, because the next attempt starts its own."""
    assert ExitAction.STOP is after_error(
        state, retry_left=True, is_durable=False, is_replaced=True
    )


@pytest.mark.parametrize("given", [0, -1, True, math.nan, math.inf, "1", None])
def test_invalid_numbers(given: Any) -> None:  # noqa: ANN401 - that is the point
    """The error for an invalid number names the argument."""
    with pytest.raises(ValueError, match=r"^logging_interval=.*: give a number above 0$"):
        positive("logging_interval", given)


def test_an_interval_can_be_a_timedelta() -> None:
    """An interval can be a number of seconds or a timedelta."""
    assert 90 == positive("logging_interval", timedelta(minutes=1.5))
    assert 0.5 == positive("logging_interval", 0.5)


def test_one_string_is_one_id() -> None:
    """One string is one id."""
    assert ["hub"] == ids_of("hub")
    assert ("hub", "lab") == ids_of(("hub", "lab"))


def test_unknown_words() -> None:
    """The error for an unknown word names the argument and lists the known words."""
    with pytest.raises(ValueError, match="on_finish='burn' is not accepted; choose from delete"):
        OnFinish.parse("burn")
    with pytest.raises(ValueError, match=r"on_worker_shutdown='burn' .* choose from defer, keep"):
        OnWorkerShutdown.parse("burn")


OVER = ("failed", "success", "skipped", "removed", "upstream_failed", "restarting", None)
GOES_ON = ("deferred", "running", "queued", "scheduled", "up_for_retry", "up_for_reschedule")


@pytest.mark.parametrize(
    ("state", "current", "expected"),
    [
        # A user marked the task, or cleared it and the next try has not started.
        *((state, "app", True) for state in OVER),
        *((state, None, True) for state in OVER),
        # Another triggerer has the trigger now.
        *((state, "app", False) for state in GOES_ON),
        # The next try has not pushed its app yet, and will clean up this one.
        *((state, None, False) for state in GOES_ON),
        # A user cleared the task, and the next try already runs its own app.
        *((state, "next", True) for state in (*GOES_ON, *OVER)),
    ],
)
def test_may_stop(state: str | None, current: str | None, *, expected: bool) -> None:
    """A trigger stops its app only if no process needs it any more."""
    assert expected is may_stop("app", state=state, current_app_id=current)


@pytest.mark.parametrize(
    ("state", "fired_s", "expected"),
    [
        ("deferred", 59, True),
        # It has resumed, and deferred again.
        ("deferred", 61, False),
        ("scheduled", 9_999, True),
        ("queued", 9_999, True),
        ("running", 1, False),
        ("up_for_retry", 1, False),
        *((state, 1, False) for state in OVER),
    ],
)
def test_is_resuming(state: str | None, fired_s: float, *, expected: bool) -> None:
    """A task whose trigger fired is without a process until it runs, however long that takes."""
    assert expected is is_resuming(state, fired_s)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("deferred", ExitAction.HAND_OVER),
        ("running", ExitAction.HAND_OVER),
        (UNKNOWN, ExitAction.HAND_OVER),
        ("scheduled", ExitAction.KEEP),
        ("queued", ExitAction.KEEP),
        ("up_for_retry", ExitAction.KEEP),
        ("up_for_reschedule", ExitAction.KEEP),
        *((state, ExitAction.STOP) for state in ("success", "failed", "skipped", "removed", None)),
    ],
)
def test_after_the_report_of_a_deferral(state: str | None, expected: ExitAction) -> None:
    """A process that has deferred stops its app only if no process and no trigger will have it."""
    assert expected is after_deferral(state)
