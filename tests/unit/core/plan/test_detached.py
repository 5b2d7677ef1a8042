from __future__ import annotations

from typing import Any

import pytest

from airflow_torchx.core.plan.detached import detached_warning
from airflow_torchx.core.plan.job_plan import LaunchContext, plan
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.specs import AppDef, RetryPolicy, Role

RETRY = "retry_policy=REPLICA lets Docker restart a failed replica"
FAIL_FAST = "failure_policy=fail_fast (if a replica fails, the others run on)"


def app(replicas: int = 1, **fields: Any) -> AppDef:  # noqa: ANN401 - the fields of a Role
    """Return an app of one role."""
    return AppDef("a", [Role("trainer", image="i", num_replicas=replicas, **fields)])


def test_one_warning_names_all_that_no_process_carries_out() -> None:
    """A launch that no process waits for has one warning: what has no effect, and what to do."""
    made = AppDef(
        "a", [Role("trainer", image="i", num_replicas=2, max_retries=3), Role("board", image="i")]
    )
    opts = Opts(essential_roles=["trainer"], stalled_after_s=60)
    context = LaunchContext(
        app_id="a", handle="h", launch_id="one", environ={}, is_waited_for=False
    )

    warning = (
        "no process waits for the app, so these have no effect: "
        f"{FAIL_FAST}, max_retries of role trainer ({RETRY}), essential_roles (the other roles run "
        "on), stalled_after_s. Run it without --detach, or in a task with wait_for_completion=True"
    )
    assert (warning,) == plan(made, opts, context).warnings


@pytest.mark.parametrize(
    ("made", "opts", "idle"),
    [
        (app(2), {}, FAIL_FAST),
        (app(2), {"failure_policy": "wait_all"}, None),
        (app(1), {}, None),
        (app(1, max_retries=1), {}, f"max_retries of role trainer ({RETRY})"),
        (app(1, max_retries=1, retry_policy=RetryPolicy.REPLICA), {}, None),
        (app(1), {"stalled_after_s": 5}, "stalled_after_s"),
    ],
)
def test_only_what_the_app_has_is_named(made: AppDef, opts: Any, idle: str | None) -> None:  # noqa: ANN401 - run options
    """The warning names what the app or its options ask for; without any of it, there is none."""
    warning = detached_warning(made, Opts.parse(opts))

    found = warning and warning.removeprefix(
        "no process waits for the app, so these have no effect: "
    ).removesuffix(". Run it without --detach, or in a task with wait_for_completion=True")
    assert idle == found


def test_an_app_that_is_waited_for_needs_no_warning() -> None:
    """A launch that a process waits for has none of these warnings."""
    context = LaunchContext(app_id="a", handle="h", launch_id="one", environ={})

    assert () == plan(app(2, max_retries=1), Opts(stalled_after_s=5), context).warnings
