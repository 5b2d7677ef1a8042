"""What a card says about a failure below its first line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_torchx.core.state.describe import (
    CHECKPOINT,
    CHECKPOINT_S,
    CHECKPOINT_SIGNAL,
    FAILURE_RULES,
    SAVING,
)
from airflow_torchx.core.state.report import Found, cause, failure_card, replica_table, restart_text
from airflow_torchx.core.state.restarts import Restart
from airflow_torchx.core.state.stall import STALLED_AFTER
from airflow_torchx.specs import (
    AppState,
    DescribeAppResponse,
    ReplicaStatus,
    ReplicaUsage,
    RoleStatus,
    WorkerFailure,
)


def replica(**fields: Any) -> ReplicaStatus:  # noqa: ANN401 - its fields
    """Return a replica that failed."""
    return ReplicaStatus(0, AppState.FAILED, "w", "x1-w-0", **fields)


def app(metadata: dict[str, str], **fields: Any) -> DescribeAppResponse:  # noqa: ANN401 - of a replica
    """Return an app of one replica that failed."""
    roles = [RoleStatus("w", [replica(**fields)])]
    return DescribeAppResponse("x1", AppState.FAILED, metadata=metadata, roles_statuses=roles)


def test_a_save_before_a_timeout() -> None:
    """The card of an app that has saved says why it was asked, and what follows."""
    asked = {SAVING: "true", CHECKPOINT_SIGNAL: "SIGUSR1", CHECKPOINT_S: "5"}

    card = failure_card(app({**asked, CHECKPOINT: "volume"}, exit_code=3), [])

    assert (
        "w/0 failed first: exit code 3\n"
        "It was asked to save 5 s before execution_timeout, by SIGUSR1.\n"
        "A next try goes on from its newest checkpoint, if it has saved one.\n"
    ) in card
    assert "checkpoint," not in failure_card(app(asked, exit_code=3), [])
    unasked = {CHECKPOINT: "volume", CHECKPOINT_SIGNAL: "SIGUSR1"}
    assert "asked to save" not in failure_card(app(unasked, exit_code=3), [])
    unknown = failure_card(app({SAVING: "true"}, exit_code=3), [])
    assert "\nIt was asked to save before execution_timeout, by its checkpoint signal.\n" in unknown


def test_a_stall() -> None:
    """The card of an app that has stalled has the seconds and what to do."""
    card = failure_card(app({STALLED_AFTER: "15"}, stalled=True, exit_code=134), [])

    assert "stalled: no line, no CPU use and no GPU use for 15 s (stalled_after_s)\n" in card
    assert "raise options.stalled_after_s" in card


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"exit_code": 137}, "killed, out of memory (exit code 137)"),
        (
            {"exit_code": 1, "worker": WorkerFailure(rank=1, exit_code=137, signal="SIGKILL")},
            "rank 1: killed, out of memory (exit code 137)",
        ),
        (
            {"exit_code": 1, "worker": WorkerFailure(exit_code=1, message="MemoryError: a")},
            "out of memory (exit code 1)",
        ),
        (
            {"exit_code": 1, "worker": WorkerFailure(exit_code=1, message="ValueError: nan")},
            "exit code 1: ValueError: nan",
        ),
        ({"exit_code": 1}, "exit code 1"),
    ],
    ids=["process-1", "worker", "says-so", "says-something-else", "unknown"],
)
def test_a_kill_for_lack_of_memory_need_not_be_the_cause(fields: dict[str, Any], text: str) -> None:
    """Docker keeps its flag after the kernel has killed any process of a container."""
    failed = app({}, oom_killed=True, **fields)

    card = failure_card(failed, [])

    is_cause = "out of memory" in text
    assert cause(replica(oom_killed=True, **fields)).startswith(text)
    assert is_cause != ("the kernel killed a process in w/0 for lack of memory; " in card)
    assert ("yes" if is_cause else "a process") in replica_table(failed)


def test_a_memory_limit() -> None:
    """The limit that was read for the card counts before that of the last sample."""
    usage = ReplicaUsage(sampled_at=datetime(2026, 1, 31, tzinfo=UTC), memory_limit_bytes=2 << 30)
    failed: dict[str, Any] = {"oom_killed": True, "exit_code": 137}

    def limit(of_card: int | None, **fields: Any) -> str:  # noqa: ANN401 - of a replica
        card = failure_card(app({}, **failed, **fields), [], found=Found(limit_bytes=of_card))
        return card.partition("(exit code 137")[2].partition(")")[0]

    assert "" == limit(None)
    assert ", limit 2 GiB" == limit(None, usage=usage)
    assert ", limit 600 MiB" == limit(600 << 20, usage=usage)


def test_advice_about_resources() -> None:
    """The card has it below the table."""
    usage = ReplicaUsage(
        sampled_at=datetime(2026, 1, 31, tzinfo=UTC),
        memory_peak_bytes=1 << 30,
        memory_limit_bytes=1 << 30,
    )

    card = failure_card(app({}, exit_code=1, usage=usage), [])

    assert "\nw: memory peak 1 of 1 GiB; raise resource.memMB\n" in card


def test_a_restart_after_a_stall() -> None:
    """The line about a restart has the seconds, too."""
    stalled = app({STALLED_AFTER: "15"}, stalled=True, exit_code=134)
    restart = Restart(roles=("w",), number=1, lost="w/0", used=1, maximum=3)

    assert "for 15 s (stalled_after_s); restarting the app, restart 1 of 3" in restart_text(
        stalled, restart
    )


@pytest.mark.parametrize("action", ["fail", "none"])
def test_an_own_rule(action: str) -> None:
    """The card shows the line that it matches, cut, and says when the task is not retried."""
    rules = [{"name": "bad_data", "pattern": "corrupt shard", "action": action}]
    failed = app({FAILURE_RULES: json.dumps(rules)}, exit_code=1, rule="bad_data")

    card = failure_card(failed, [], found=Found(rule_line="a corrupt shard" + "x" * 900))

    shown = "a corrupt shard" + "x" * 485
    assert f"\nfailure rule: bad_data\nIt matches this line: {shown}…\n" in card
    assert (action == "fail") == ("its task is not retried" in card)
    assert "failure rule bad_data" not in replica_table(failed)
    short = failure_card(failed, [], found=Found(rule_line="a corrupt shard"))
    assert "\nIt matches this line: a corrupt shard\n" in short
