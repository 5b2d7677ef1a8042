"""Tests of the roles on which the state of an app depends."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerRow
from airflow_torchx.core.plan.identity import cancelled_name, container_name
from airflow_torchx.core.state.condition import Condition
from airflow_torchx.core.state.describe import (
    Fail,
    Finish,
    StopAuxiliary,
    Wait,
    describe,
    first_failure,
    next_step,
)
from airflow_torchx.core.state.evaluate import Met, Pending, Unreachable, evaluate
from airflow_torchx.core.state.report import replica_table
from airflow_torchx.specs import AppState, DescribeAppResponse

#: Docker's state and status of a replica, by a letter; "x" was stopped by a cancel.
STATES = {
    "c": ("created", "Created"),
    "r": ("running", "Up 2 hours"),
    "+": ("exited", "Exited (0) 2 hours ago"),
    "-": ("exited", "Exited (7) 2 hours ago"),
    "x": ("exited", "Exited (143) 2 hours ago"),
}
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def launched(
    trainer: str, ps: str, essential: str = '["trainer"]', **extra: str
) -> DescribeAppResponse:
    """Return an app with one replica for each letter."""
    rows = []
    for role, letters in {"trainer": trainer, "ps": ps}.items():
        for index, letter in enumerate(letters):
            name = container_name("a-1", role, index)
            state, status = STATES[letter]
            rows.append(
                ContainerRow(
                    id=f"{role}{index}",
                    name=cancelled_name(name) if letter == "x" else name,
                    image="img:1",
                    state=state,
                    status=status,
                    labels={
                        labels.APP_ID: "a-1",
                        labels.ROLE_NAME: role,
                        labels.REPLICA_ID: str(index),
                        labels.FAILURE_POLICY: "fail_fast",
                        labels.ESSENTIAL_ROLES: essential,
                        **extra,
                    },
                    created_at=NOON,
                )
            )
    app = describe("a-1", rows, {})
    assert app is not None
    return app


@pytest.mark.parametrize(
    ("trainer", "ps", "state", "step"),
    [
        ("rr", "r", AppState.RUNNING, Wait()),
        ("rr", "-", AppState.RUNNING, Wait()),
        ("r+", "+", AppState.RUNNING, Wait()),
        ("cr", "r", AppState.SUBMITTED, Wait()),
        ("++", "r", AppState.SUCCEEDED, StopAuxiliary(("ps",), None)),
        ("++", "r-", AppState.SUCCEEDED, StopAuxiliary(("ps",), None)),
        ("++", "x", AppState.SUCCEEDED, Finish(AppState.SUCCEEDED)),
        ("++", "-", AppState.SUCCEEDED, Finish(AppState.SUCCEEDED)),
        ("x+", "+", AppState.CANCELLED, Finish(AppState.CANCELLED)),
        ("x+", "r", AppState.CANCELLED, StopAuxiliary(("ps",), None)),
        ("+-", "-", AppState.FAILED, Finish(AppState.FAILED)),
    ],
)
def test_the_app_ends_with_its_essential_roles(
    trainer: str, ps: str, state: AppState, step: object
) -> None:
    """State and next step depend on the essential roles; the others are stopped at their end."""
    app = launched(trainer, ps)

    assert state is app.state
    assert step == next_step(app)


def test_an_essential_replica_is_blamed() -> None:
    """Peers are stopped after the failure of an essential replica, which is the one blamed."""
    app = launched("r-", "-r")

    step = next_step(app)

    assert isinstance(step, Fail)
    assert ("trainer", 1) == (step.lost.role, step.lost.id)
    assert first_failure(app) == step.lost


def test_the_end_of_the_essential_roles_stops_the_others_under_wait_all() -> None:
    """An app whose essential roles have all ended stops the others, also after a failure."""
    app = launched("-+", "r", **{labels.FAILURE_POLICY: "wait_all"})

    assert StopAuxiliary(("ps",), None) == next_step(app)


def test_their_grace_period_is_a_label() -> None:
    """The seconds that auxiliary roles get are those of the label, if it can be read."""
    for text, grace_s in (("2.5", 2.5), ("soon", None), ("-1", None)):
        app = launched("+", "r", **{labels.AUXILIARY_GRACE: text})
        assert StopAuxiliary(("ps",), grace_s) == next_step(app)


@pytest.mark.parametrize(
    "text",
    ["", "{", "7", "{}", "[]", '["other"]', '[["trainer"]]', "null", "[" * 100_000],
    ids=lambda text: text[:12],
)
def test_a_label_without_a_role_of_the_app_counts_as_none(text: str) -> None:
    """Any client can write a label: without a known role, every role is essential."""
    assert AppState.RUNNING is launched("+", "r", text).state
    assert AppState.FAILED is launched("+", "-", text).state


@settings(max_examples=40, deadline=None)
@given(st.text())
def test_any_label_can_be_read(text: str) -> None:
    """No label raises."""
    launched("+", "r", text)


def test_a_sensor_waits_for_the_essential_roles() -> None:
    """A condition on the app is met by its essential roles, one on a role by that role."""
    done = Condition.parse("SUCCEEDED", "FAILED,CANCELLED")
    of_ps = Condition.parse("SUCCEEDED", "FAILED,CANCELLED", "ps")
    two = Condition.parse("SUCCEEDED", "FAILED,CANCELLED", None, 2)

    assert isinstance(evaluate(launched("+r", "-"), done), Pending)
    assert isinstance(evaluate(launched("++", "-"), done), Met)
    assert isinstance(evaluate(launched("++", "r"), done), Met)
    assert isinstance(evaluate(launched("++", "-"), of_ps), Unreachable)
    assert isinstance(evaluate(launched("++", "x"), two), Met)


def test_the_table_says_which_replicas_are_auxiliary() -> None:
    """A replica of an auxiliary role has a note; without such roles, the column is left out."""
    lines = replica_table(launched("+", "x")).splitlines()

    assert lines[0].endswith("note")
    assert {"ps/0"} == {line.split()[0] for line in lines[2:] if "auxiliary" in line}
    assert "note" not in replica_table(launched("+", "+", "[]"))
