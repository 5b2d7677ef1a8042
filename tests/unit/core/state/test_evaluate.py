"""Tests of evaluating a condition on an app."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_torchx.core.state.condition import Condition
from airflow_torchx.core.state.describe import FAILURE_POLICY, app_state
from airflow_torchx.core.state.evaluate import Met, Pending, Unreachable, evaluate
from airflow_torchx.errors import ConditionError
from airflow_torchx.specs import (
    AppState,
    DescribeAppResponse,
    ReplicaStatus,
    Role,
    RoleStatus,
    is_terminal,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

APP: Final = "train-x1y2"
LETTERS: Final = {
    "s": AppState.SUBMITTED,
    "p": AppState.PENDING,
    "r": AppState.RUNNING,
    "+": AppState.SUCCEEDED,
    "-": AppState.FAILED,
    "c": AppState.CANCELLED,
    "?": AppState.UNKNOWN,
}
# The sensor's default for failed states.
FAILED: Final = ("FAILED", "CANCELLED")

quick = settings(max_examples=30, deadline=None)
states = st.sampled_from(list(LETTERS.values()))
ended_states = st.sampled_from([state for state in AppState if is_terminal(state)])
sets = st.frozensets(st.sampled_from(AppState))


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    """Draw any valid condition."""
    targets = draw(st.frozensets(st.sampled_from(AppState), min_size=1))
    return Condition(
        targets=targets,
        failed=draw(sets) - targets,
        role=draw(st.sampled_from([None, "a", "b"])),
        min_replicas=draw(st.none() | st.integers(1, 4)),
    )


def app(
    roles: Mapping[str, str], *, own: bool = True, sizes: Mapping[str, int] | None = None
) -> DescribeAppResponse:
    """Return an app with one letter for each replica.

    Args:
        roles: role to letters.
        own: this package launched the app, so it has our labels; else TorchX's command line did.
        sizes: role to number of replicas, if it is not the number of letters.
    """
    statuses = [
        RoleStatus(
            name, [ReplicaStatus(i, LETTERS[x], name, f"h{i}") for i, x in enumerate(letters)]
        )
        for name, letters in roles.items()
    ]
    counts = {name: len(letters) for name, letters in roles.items()} | dict(sizes or {})
    return DescribeAppResponse(
        app_id=APP,
        state=app_state(LETTERS[x] for letters in roles.values() for x in letters),
        metadata={FAILURE_POLICY: "fail_fast"} if own else {},
        roles_statuses=statuses,
        roles=[Role(name, "img:1", num_replicas=count) for name, count in counts.items()],
    )


@st.composite
def apps(draw: st.DrawFn, of: st.SearchStrategy[AppState] = states) -> DescribeAppResponse:
    """Draw an app of one or two roles."""
    words = {state: letter for letter, state in LETTERS.items()}
    letters = st.lists(of.map(words.__getitem__), min_size=1, max_size=4).map("".join)
    roles = draw(st.dictionaries(st.sampled_from(["a", "b"]), letters, min_size=1))
    return app(roles, own=draw(st.booleans()))


@pytest.mark.parametrize(
    ("letters", "targets", "failed", "expected"),
    [
        # The default: wait until all replicas have succeeded.
        ("rr", "SUCCEEDED", FAILED, Pending),
        ("+r", "SUCCEEDED", FAILED, Pending),
        ("++", "SUCCEEDED", FAILED, Met),
        ("-r", "SUCCEEDED", FAILED, Unreachable),
        ("cr", "SUCCEEDED", FAILED, Unreachable),
        ("+c", "SUCCEEDED", FAILED, Unreachable),
        ("?r", "SUCCEEDED", FAILED, Pending),
        # SUBMITTED, PENDING and RUNNING mean "at least".
        ("sr", "RUNNING", FAILED, Pending),
        ("pr", "RUNNING", FAILED, Pending),
        ("rr", "RUNNING", FAILED, Met),
        ("+r", "RUNNING", FAILED, Met),
        ("++", "RUNNING", FAILED, Met),
        ("?r", "RUNNING", FAILED, Pending),
        ("-r", "RUNNING", FAILED, Unreachable),
        ("r", "PENDING", (), Met),
        ("s", "PENDING", (), Pending),
        ("+", "SUBMITTED", (), Met),
        ("s", "UNSUBMITTED", (), Met),
        # A failed state counts even if it comes after a target.
        ("+", "RUNNING", "SUCCEEDED", Unreachable),
        ("r", "SUBMITTED", "RUNNING", Unreachable),
        # A final state needs the end of all replicas.
        ("-r", "FAILED", (), Pending),
        ("-+", "FAILED", (), Met),
        ("-r", "FAILED,SUCCEEDED,CANCELLED", (), Pending),
        ("-c", "FAILED,SUCCEEDED,CANCELLED", (), Met),
        ("++", "FAILED,SUCCEEDED,CANCELLED", (), Met),
        ("++", "FAILED", (), Unreachable),
        # The targets cannot be reached, without a failed state.
        ("-r", "SUCCEEDED", (), Unreachable),
        ("cr", "SUCCEEDED", (), Unreachable),
        ("cr", "FAILED", (), Pending),
        ("cr", "CANCELLED", (), Pending),
        ("cc", "FAILED", (), Unreachable),
        ("--", "RUNNING", (), Unreachable),
        # A state that Docker adds later.
        ("?", "UNKNOWN", (), Met),
        ("?", "SUCCEEDED", "UNKNOWN", Unreachable),
    ],
)
def test_the_whole_app(
    letters: str, targets: str, failed: str | tuple[str, ...], expected: type
) -> None:
    """The app's state is compared with the targets, and a final one counts at the end."""
    condition = Condition.parse(targets, failed)

    assert expected is type(evaluate(app({"a": letters}), condition))


@pytest.mark.parametrize(
    ("letters", "needed", "expected"),
    [
        ("sss", 1, Pending),
        ("rss", 1, Met),
        ("rss", 2, Pending),
        ("r+s", 2, Met),
        ("rr-", 2, Met),
        ("rs-", 2, Pending),
        ("r--", 2, Unreachable),
        ("rrr", 4, Unreachable),
        ("rcs", 3, Unreachable),
    ],
)
def test_some_replicas(letters: str, needed: int, expected: type) -> None:
    """A number of replicas meets the condition, and it is unreachable once too few can."""
    condition = Condition.parse("RUNNING", FAILED, min_replicas=needed)

    assert expected is type(evaluate(app({"a": letters}), condition))


@pytest.mark.parametrize(
    ("letters", "targets", "failed"), [("+r", "RUNNING", "SUCCEEDED"), ("pr", "RUNNING", "PENDING")]
)
def test_a_replica_in_a_failed_state_does_not_count(
    letters: str, targets: str, failed: str
) -> None:
    """A replica in a failed state does not count, even if it has passed a target or still runs."""
    condition = Condition.parse(targets, failed, min_replicas=2)

    assert isinstance(evaluate(app({"a": letters}), condition), Unreachable)


@pytest.mark.parametrize(
    ("role", "needed", "expected"),
    [
        (None, None, Unreachable),
        ("server", None, Met),
        ("client", None, Unreachable),
        (None, 3, Met),
        ("server", 3, Unreachable),
        ("client", 1, Met),
        ("sever", None, Unreachable),
    ],
)
def test_one_role(role: str | None, needed: int | None, expected: type) -> None:
    """A condition on a role counts only the role's replicas."""
    gang = app({"server": "rr", "client": "-+"})
    condition = Condition.parse("RUNNING", FAILED, role, needed)

    assert expected is type(evaluate(gang, condition))


def test_replicas_that_are_not_created_yet() -> None:
    """Replicas that are not created yet count as pending."""
    launching = app({"a": "ss", "b": ""}, sizes={"a": 3, "b": 1})

    assert isinstance(evaluate(launching, Condition.parse("SUBMITTED")), Pending)
    assert isinstance(evaluate(launching, Condition.parse("SUBMITTED", role="b")), Pending)
    assert isinstance(evaluate(launching, Condition.parse("RUNNING", min_replicas=4)), Pending)
    assert isinstance(evaluate(launching, Condition.parse("RUNNING", min_replicas=5)), Unreachable)


@pytest.mark.parametrize("condition", [{"role": "b"}, {"min_replicas": 3}])
def test_an_app_without_a_roles_label(condition: dict[str, str]) -> None:
    """An app without a roles label may gain replicas until it has ended."""
    parsed = Condition.parse("RUNNING", FAILED, **condition)

    assert isinstance(evaluate(app({"a": "rr"}, own=False), parsed), Pending)
    assert isinstance(evaluate(app({"a": "+-"}, own=False), parsed), Unreachable)


@pytest.mark.parametrize(
    ("letters", "condition", "expected"),
    [
        ("+", {}, "app 'train-x1y2' is SUCCEEDED."),
        ("r", {}, "app 'train-x1y2' is RUNNING; waiting for SUCCEEDED."),
        ("-r", {}, "app 'train-x1y2' is FAILED instead of SUCCEEDED."),
        (
            "++",
            {"targets": {"CANCELLED", "FAILED"}, "failed": ()},
            "app 'train-x1y2' is SUCCEEDED and will not become FAILED or CANCELLED.",
        ),
        (
            "r+s",
            {"targets": ["RUNNING"], "role": "a", "min_replicas": 2},
            "2 of 3 replicas of role 'a' of app 'train-x1y2' have reached RUNNING.",
        ),
        (
            "r-s",
            {"targets": ["RUNNING"], "min_replicas": 3},
            (
                "1 of 3 replicas of app 'train-x1y2' have reached RUNNING and 1 cannot; 3 are"
                " needed."
            ),
        ),
        (
            "rs",
            {"targets": ["RUNNING"], "min_replicas": 2},
            "1 of 2 replicas of app 'train-x1y2' have reached RUNNING; waiting for 2.",
        ),
        ("rs", {"role": "A"}, "app 'train-x1y2' has no role 'A'.\nIts roles are a."),
    ],
)
def test_messages(letters: str, condition: dict[str, object], expected: str) -> None:
    """The message says in one sentence what was found and what is wanted."""
    wanted = {"targets": "SUCCEEDED", "failed": FAILED} | condition

    answer = evaluate(app({"a": letters}), Condition.parse(**wanted))  # type: ignore[arg-type]

    assert expected == answer.message


@quick
@given(apps(ended_states), conditions())
def test_an_ended_app_is_never_pending(gang: DescribeAppResponse, condition: Condition) -> None:
    """No condition is pending for an app whose replicas have ended."""
    assert not isinstance(evaluate(gang, condition), Pending)


@quick
@given(apps(), conditions(), st.randoms(use_true_random=False))
def test_the_order_does_not_matter(
    gang: DescribeAppResponse, condition: Condition, chance: random.Random
) -> None:
    """The order of replicas and roles does not change the result."""
    roles = [
        replace(status, replicas=chance.sample(status.replicas, len(status.replicas)))
        for status in chance.sample(gang.roles_statuses, len(gang.roles_statuses))
    ]

    shuffled = evaluate(replace(gang, roles_statuses=roles), condition)

    assert evaluate(gang, condition) == shuffled


@quick
@given(apps(), conditions())
def test_all_replicas_meet_the_condition(gang: DescribeAppResponse, condition: Condition) -> None:
    """If all replicas meet a condition, so do their number and, unless some failed, the app."""
    replicas = [
        r for s in gang.roles_statuses for r in s.replicas if condition.role in {None, s.role}
    ]
    if replicas and all(condition.met_by(replica.state) for replica in replicas):
        count = replace(condition, min_replicas=len(replicas), failed=frozenset())
        whole = replace(condition, min_replicas=None, failed=frozenset())

        assert isinstance(evaluate(gang, count), Met)
        assert isinstance(evaluate(gang, whole), Met) or any(
            replica.state in {AppState.FAILED, AppState.CANCELLED} for replica in replicas
        )


@quick
@given(apps(), conditions(), st.data())
def test_unreachable_conditions_stay_unreachable(
    gang: DescribeAppResponse, condition: Condition, data: st.DataObject
) -> None:
    """An unreachable condition stays unreachable, whatever the running replicas do."""
    condition = replace(condition, failed=frozenset())
    if not isinstance(evaluate(gang, condition), Unreachable):
        return
    later = [
        replace(
            status,
            replicas=[
                r if is_terminal(r.state) else replace(r, state=data.draw(states))
                for r in status.replicas
            ],
        )
        for status in gang.roles_statuses
    ]

    assert isinstance(evaluate(replace(gang, roles_statuses=later), condition), Unreachable)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"targets": []}, 'no target state is given.\nGive one, like "SUCCEEDED".'),
        ({"targets": "RUNING"}, "'RUNING' is not a state; did you mean 'RUNNING'?"),
        ({"targets": "running"}, "'running' is not a state; did you mean 'RUNNING'?"),
        (
            {"targets": ["SUCCEEDED"], "failed": ["FAILED", "LOST"]},
            (
                "'LOST' is not a state; use one of UNSUBMITTED, SUBMITTED, PENDING, RUNNING,"
                " SUCCEEDED, FAILED, CANCELLED, UNKNOWN"
            ),
        ),
        (
            {"targets": ["FAILED", "SUCCEEDED"], "failed": ["CANCELLED", "FAILED"]},
            "FAILED cannot be both a target state and a failed state.\nRemove it from one of them.",
        ),
        (
            {"targets": "RUNNING", "min_replicas": 0},
            ("min_replicas=0 always holds.\nGive 1 or more, or None for all replicas."),
        ),
        (
            {"targets": "RUNNING", "min_replicas": "two"},
            "min_replicas='two' is not a number.\nGive 1 or more, or None for all replicas.",
        ),
    ],
)
def test_invalid_conditions(arguments: dict[str, object], message: str) -> None:
    """An invalid condition is refused, and the error says how to fix it."""
    with pytest.raises(ConditionError) as caught:
        Condition.parse(**arguments)  # type: ignore[arg-type]

    assert message == str(caught.value)


@pytest.mark.parametrize(
    "targets", ["RUNNING,SUCCEEDED", " RUNNING , SUCCEEDED ", {"SUCCEEDED", "RUNNING"}, "enum"]
)
def test_ways_to_write_states(targets: str | set[str]) -> None:
    """States can be one comma-separated string, several strings, or members of the enum."""
    written = [AppState.RUNNING, AppState.SUCCEEDED] if targets == "enum" else targets

    condition = Condition.parse(written, min_replicas="2")  # type: ignore[arg-type]

    assert frozenset({AppState.RUNNING, AppState.SUCCEEDED}) == condition.targets
    assert 2 == condition.min_replicas
