"""What of an app is done only while a process waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_torchx.specs import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.specs import AppDef, Role


def restarted(app: AppDef) -> list[Role]:
    """Return the roles whose failures restart them or the app in new containers."""
    return [
        role
        for role in app.roles
        if role.max_retries > 0 and role.retry_policy is not RetryPolicy.REPLICA
    ]


def detached_warning(app: AppDef, opts: Opts) -> str | None:
    """Return what has no effect if no process waits for the app, and what to do; None if all has.

    Docker carries out ``retry_policy=REPLICA`` itself.
    """
    idle = [*_idle(app, opts)]
    if not idle:
        return None
    return (
        "no process waits for the app, so these have no effect: "
        f"{', '.join(idle)}. Run it without --detach, or in a task with wait_for_completion=True"
    )


def _idle(app: AppDef, opts: Opts) -> Iterator[str]:
    is_gang = sum(role.num_replicas for role in app.roles) > 1
    if opts.failure_policy == "fail_fast" and is_gang:
        yield "failure_policy=fail_fast (if a replica fails, the others run on)"
    for role in restarted(app):
        restart = f"retry_policy={RetryPolicy.REPLICA.value} lets Docker restart a failed replica"
        yield f"max_retries of role {role.name} ({restart})"
    if opts.essential_roles:
        yield "essential_roles (the other roles run on)"
    if opts.stalled_after_s is not None:
        yield "stalled_after_s"
