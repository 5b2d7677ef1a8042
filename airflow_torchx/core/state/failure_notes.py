"""What a card says about a failure below its first line: what explains it, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_torchx.core.state.blame import blamed_replica
from airflow_torchx.core.state.describe import (
    CHECKPOINT,
    CHECKPOINT_S,
    CHECKPOINT_SIGNAL,
    SAVING,
    first_failure,
)
from airflow_torchx.core.state.failure_rules import advice_of, failure_action
from airflow_torchx.core.state.out_of_memory import ran_out_of_memory
from airflow_torchx.specs import AppState

if TYPE_CHECKING:
    from airflow_torchx.specs import DescribeAppResponse

#: Characters of a line that a rule matches.
_LINE: Final = 500
_STALLED: Final = (
    "Its log ends with the stacks that were asked for, as far as they could be read: they show "
    "where it hung. If it works in silence for longer, raise options.stalled_after_s."
)


def failure_notes(app: DescribeAppResponse, rule_line: str = "") -> list[str]:
    """Return the lines about a failure; ``rule_line`` is the line that its rule matches."""
    return [*_stopped(app), *_saving(app), *_rule(app, rule_line), *_memory(app), *_stall(app)]


def _stopped(app: DescribeAppResponse) -> list[str]:
    """Return why the replica that is blamed was stopped, and which one ended first."""
    blamed, first = blamed_replica(app), first_failure(app)
    if blamed is None or first is None or blamed.state is not AppState.CANCELLED:
        return []
    name = f"{blamed.role}/{blamed.id}"
    return [
        f"{first.role}/{first.id} ended first, but a worker in {name} had failed before that.",
        f"{name} is CANCELLED: it was listed as running when the app was stopped.",
    ]


def _saving(app: DescribeAppResponse) -> list[str]:
    """Return why an app was asked to save, and what the next try does with it."""
    if SAVING not in app.metadata:
        return []
    signal = app.metadata.get(CHECKPOINT_SIGNAL, "its checkpoint signal")
    seconds = app.metadata.get(CHECKPOINT_S)
    when = f" {seconds} s" if seconds else ""
    lines = [f"It was asked to save{when} before execution_timeout, by {signal}."]
    if CHECKPOINT in app.metadata:
        lines += ["A next try goes on from its newest checkpoint, if it has saved one."]
    return lines


def _rule(app: DescribeAppResponse, line: str) -> list[str]:
    """Return the rule that explains a failure, what to do, and what the rule matches."""
    blamed = blamed_replica(app)
    if blamed is None or not blamed.rule:
        return []
    shown = f"{line[:_LINE]}…" if len(line) > _LINE else line
    return [
        f"failure rule: {blamed.rule}",
        *filter(None, [advice_of(app, blamed.rule)]),
        *([f"It matches this line: {shown}"] if line else []),
        *(
            ["Its action is fail: the app is not restarted, and its task is not retried."]
            if failure_action(app) == "fail"
            else []
        ),
    ]


def _memory(app: DescribeAppResponse) -> list[str]:
    """Return what Docker's flag means if it does not explain the failure."""
    blamed = blamed_replica(app)
    if blamed is None or not blamed.oom_killed or ran_out_of_memory(blamed):
        return []
    name = f"{blamed.role}/{blamed.id}"
    killed = f"At some time the kernel killed a process in {name} for lack of memory"
    return [f"{killed}; that need not be the cause."]


def _stall(app: DescribeAppResponse) -> list[str]:
    blamed = blamed_replica(app)
    return [_STALLED] if blamed is not None and blamed.stalled else []
