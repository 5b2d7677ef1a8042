"""Tests of the state of an app."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerDetail, ContainerRow
from airflow_torchx.core.plan.identity import cancelled_name, container_name
from airflow_torchx.core.state.describe import (
    FAILURE_POLICY,
    STOP_GRACE,
    Fail,
    Finish,
    Place,
    StopAuxiliary,
    Wait,
    app_state,
    describe,
    exit_code,
    first_failure,
    needs_detail,
    next_step,
    replica_state,
    replicas_of,
    summaries,
)
from airflow_torchx.core.state.restarts import Restart
from airflow_torchx.core.state.rounds import replica_key
from airflow_torchx.core.state.signals import signal_name
from airflow_torchx.specs import (
    AppState,
    DescribeAppResponse,
    ListAppResponse,
    ReplicaStatus,
    RoleStatus,
    is_terminal,
    to_dict,
)

APP = "train-x1y2"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

WORDS = ["created", "restarting", "running", "paused", "removing", "dead", "exited", "stopped", ""]
SENTENCES = ["Exited (0) 2 seconds ago", "Exited (137) 3 hours ago", "Up 2 hours", "Created", ""]

quick = settings(max_examples=40, deadline=None)


def row(
    state: str = "running",
    status: str = "",
    *,
    role: str = "trainer",
    replica: int = 0,
    cancelled: bool = False,
    **changes: object,
) -> ContainerRow:
    """Return a container as TorchX's own command line launches it."""
    name = container_name(APP, role, replica)
    fields: dict[str, Any] = {
        "id": f"{role}/{replica}",
        "name": cancelled_name(name) if cancelled else name,
        "image": "img:1",
        "labels": {
            labels.APP_ID: APP,
            labels.ROLE_NAME: role,
            labels.REPLICA_ID: str(replica),
        },
        "created_at": NOON,
        **changes,
    }
    return ContainerRow(state=state, status=status, **fields)


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "7", '{"trainer": "1"}', '{"trainer": 1000000000}', "[" * 100_000],
    ids=lambda text: text[:30],
)
def test_an_invalid_roles_label(text: str) -> None:
    """An invalid roles label is ignored, because any user can write one."""
    stray = row("running")
    stray = replace(stray, labels={**stray.labels, labels.ROLES: text})

    assert [AppState.RUNNING] == [app.state for app in summaries([stray])]


def own(row: ContainerRow, roles: dict[str, int], policy: str = "fail_fast") -> ContainerRow:
    """Return a container as this package launches it, in an app of these roles."""
    written = {
        labels.ROLES: json.dumps(roles),
        labels.FAILURE_POLICY: policy,
        labels.STOP_GRACE: "2.5",
        labels.APP_NAME: "train",
        labels.HANDLE: f"local_docker://torchx/{APP}",
    }
    return replace(row, labels={**row.labels, **written})


def exited(code: int, *, replica: int = 0, cancelled: bool = False) -> ContainerRow:
    """Return a trainer that has exited."""
    sentence = f"Exited ({code}) 2 seconds ago"
    return row("exited", sentence, replica=replica, cancelled=cancelled)


def detail(container: ContainerRow, code: int | None = None, **changes: object) -> ContainerDetail:
    """Return the details of a container."""
    fields: dict[str, Any] = {
        "id": container.id,
        "state": container.state,
        "exit_code": code,
        "oom_killed": False,
        "error": "",
        "restarts": 0,
        "started_at": None,
        "finished_at": None,
        **changes,
    }
    return ContainerDetail(**fields)


def described(
    rows: list[ContainerRow], details: list[ContainerDetail] | None = None
) -> DescribeAppResponse:
    """Return the description of an app that is on the daemon."""
    app = describe(APP, rows, {found.id: found for found in details or []})
    assert app is not None
    return app


def launched(rows: list[ContainerRow], policy: str = "fail_fast") -> DescribeAppResponse:
    """Return an app of two trainers with these containers."""
    return described([own(row, {"trainer": 2}, policy) for row in rows])


def places(app: DescribeAppResponse) -> dict[str, str]:
    """Return the state of every replica."""
    return {f"{r.role}/{r.id}": str(r.state) for r in replicas_of(app)}


# What the list shows


@pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        ("exited", "Exited (0) Less than a second ago", 0),
        ("exited", "Exited (137) About a minute ago", 137),
        ("exited", "Exited (255) 2 weeks ago", 255),
        ("exited", "Exited (-1) 2 seconds ago", -1),
        ("exited", "Exited (3)", 3),
        ("exited", "Exited () 2 seconds ago", None),
        ("exited", "Exited", None),
        ("exited", "", None),
        ("exited", "since (3) days", 3),
        ("exited", "gone since (3) days", None),
        ("running", "Up 3 hours (healthy)", None),
        ("restarting", "Restarting (1) 5 seconds ago", None),
        ("created", "Created", None),
        ("dead", "Dead", None),
    ],
)
def test_exit_codes_are_in_the_list(state: str, status: str, code: int | None) -> None:
    """The exit code is parsed from the status of an exited container only."""
    assert code == exit_code(row(state, status))


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [
        ("created", None, AppState.SUBMITTED),
        ("restarting", None, AppState.PENDING),
        ("paused", None, AppState.PENDING),
        ("removing", None, AppState.PENDING),
        ("running", None, AppState.RUNNING),
        ("running", 0, AppState.RUNNING),
        ("dead", None, AppState.FAILED),
        ("dead", 0, AppState.FAILED),
        ("exited", 0, AppState.SUCCEEDED),
        ("exited", 1, AppState.FAILED),
        ("exited", -1, AppState.FAILED),
        ("exited", None, AppState.UNKNOWN),
        ("stopped", 0, AppState.UNKNOWN),
        ("", None, AppState.UNKNOWN),
    ],
)
def test_the_state_table(state: str, code: int | None, expected: AppState) -> None:
    """Every state of Docker maps to the state of a replica that was not cancelled."""
    assert expected is replica_state(row(state), code)


@pytest.mark.parametrize("code", [0, 1, 137, 143, 255, None])
def test_a_cancelled_replica_that_exits_zero_is_not_succeeded(code: int | None) -> None:
    """A cancelled replica is CANCELLED, whatever its exit code."""
    assert AppState.CANCELLED is replica_state(row("exited", cancelled=True), code)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("created", AppState.CANCELLED),
        ("dead", AppState.CANCELLED),
        ("running", AppState.RUNNING),
        ("restarting", AppState.PENDING),
        ("removing", AppState.PENDING),
    ],
)
def test_a_replica_is_cancelled_once_it_has_stopped(state: str, expected: AppState) -> None:
    """A cancelled replica that still stops has not ended; one that never started has."""
    assert expected is replica_state(row(state, cancelled=True), None)


@quick
@given(st.text("abc xE(1)-"), st.text("abc xE(1)-"), st.none() | st.integers(), st.booleans())
def test_a_state_that_docker_adds_later(
    word: str, sentence: str, code: int | None, cancelled: bool
) -> None:
    """Every container has a state, and an unknown state of Docker is not final."""
    seen = row(word, sentence, cancelled=cancelled)

    assert AppState.UNKNOWN is replica_state(seen, code)
    assert not is_terminal(described([seen]).state)
    assert exit_code(seen) is None
    assert not needs_detail(seen)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (row("running"), False),
        (row("created"), False),
        (exited(0), False),
        (exited(1), True),
        (exited(143, cancelled=True), False),
        (row("exited", "Exited"), True),
        (row("dead"), True),
    ],
    ids=["running", "created", "succeeded", "failed", "cancelled", "unread", "dead"],
)
def test_only_failures_are_inspected(seen: ContainerRow, expected: bool) -> None:
    """An inspect is needed for failed replicas and those without an exit code in the list."""
    assert expected is needs_detail(seen)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (None, None),
        (0, None),
        (1, None),
        (128, None),
        (129, "SIGHUP"),
        (134, "SIGABRT"),
        (137, "SIGKILL"),
        (139, "SIGSEGV"),
        (143, "SIGTERM"),
        (255, None),
        (-9, None),
    ],
)
def test_signals_have_names(code: int | None, name: str | None) -> None:
    """An exit code above 128 is a signal, if that signal exists."""
    assert name == signal_name(code)


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ({labels.ROLE_NAME: "ps", labels.REPLICA_ID: "12"}, ("ps", 12)),
        ({labels.ROLE_NAME: "ps", labels.REPLICA_ID: "-1"}, ("ps", 0)),
        ({labels.ROLE_NAME: "ps", labels.REPLICA_ID: "first"}, ("ps", 0)),
        ({labels.ROLE_NAME: "ps", labels.REPLICA_ID: "²"}, ("ps", 0)),
        ({labels.ROLE_NAME: "ps", labels.REPLICA_ID: "9" * 5000}, ("ps", 0)),
        ({}, ("", 0)),
    ],
    ids=["as written", "negative", "a word", "no decimal", "no index", "no labels"],
)
def test_replica_keys(written: dict[str, str], place: tuple[str, int]) -> None:
    """Role and index come from labels, and invalid labels do not raise."""
    assert place == replica_key(row(labels=written))


# The state of an app


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("SUCCEEDED SUCCEEDED", "SUCCEEDED"),
        ("SUCCEEDED RUNNING", "RUNNING"),
        ("PENDING RUNNING", "PENDING"),
        ("SUBMITTED RUNNING PENDING", "SUBMITTED"),
        ("SUBMITTED RUNNING UNKNOWN", "UNKNOWN"),
        ("SUCCEEDED UNKNOWN", "UNKNOWN"),
        ("CANCELLED SUCCEEDED RUNNING", "CANCELLED"),
        ("CANCELLED UNKNOWN", "CANCELLED"),
        ("FAILED CANCELLED RUNNING SUCCEEDED UNKNOWN", "FAILED"),
        ("SUCCEEDED UNSUBMITTED", "UNKNOWN"),
        ("", "UNKNOWN"),
    ],
)
def test_the_state_of_an_app(states: str, expected: str) -> None:
    """An app is FAILED before CANCELLED before SUCCEEDED, else as far as its slowest replica."""
    assert AppState[expected] is app_state([AppState[state] for state in states.split()])


@quick
@given(
    st.lists(st.sampled_from(AppState), max_size=6).flatmap(
        lambda states: st.tuples(st.just(states), st.permutations(states))
    )
)
def test_the_order_of_states_does_not_matter(orders: tuple[list[AppState], list[AppState]]) -> None:
    """The order of the replicas does not change the app's state."""
    assert app_state(orders[0]) is app_state(orders[1])


def any_rows() -> st.SearchStrategy[list[ContainerRow]]:
    """Return apps of all kinds: incomplete, of TorchX, renamed, duplicated."""

    def made(number: int, facts: tuple[Any, ...]) -> ContainerRow:
        word, sentence, role, index, cancelled, age_s, roles, policy = facts
        made_at = NOON + timedelta(seconds=age_s)
        plain = row(word, sentence, role=role, replica=index, cancelled=cancelled)
        plain = replace(plain, id=f"c{number}", image=f"img:{number}", created_at=made_at)
        return plain if roles is None else own(plain, roles, policy)

    facts = st.tuples(
        st.sampled_from(WORDS),
        st.sampled_from(SENTENCES),
        st.sampled_from(["trainer", "ps"]),
        st.integers(0, 3),
        st.booleans(),
        st.integers(0, 1),
        st.sampled_from([None, {"trainer": 2}, {"trainer": 1, "ps": 3}]),
        st.sampled_from(["fail_fast", "wait_all"]),
    )
    return st.lists(facts, min_size=1, max_size=6).map(
        lambda drawn: [made(number, facts) for number, facts in enumerate(drawn)]
    )


@quick
@given(any_rows().flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))))
def test_the_order_of_the_list_does_not_matter(
    orders: tuple[list[ContainerRow], list[ContainerRow]],
) -> None:
    """The order of the containers does not change any result."""
    (rows, shuffled) = orders
    details = [
        detail(row, 1, finished_at=NOON + timedelta(seconds=number % 2))
        for number, row in enumerate(rows)
        if number % 3
    ]
    app = described(rows, details)

    assert app == described(shuffled, details)
    assert next_step(app) == next_step(described(shuffled, details))
    assert summaries(rows) == summaries(shuffled)


def any_subset() -> st.SearchStrategy[tuple[dict[str, int], set[tuple[str, int]]]]:
    """Return the replicas of a launch, and those that still have a container."""
    counts = st.fixed_dictionaries({"trainer": st.integers(1, 4), "ps": st.integers(1, 2)})
    return counts.flatmap(
        lambda roles: st.tuples(
            st.just(roles),
            st.sets(
                st.sampled_from([(role, i) for role, n in roles.items() for i in range(n)]),
                min_size=1,
            ),
        )
    )


@quick
@given(any_subset())
def test_missing_replicas_never_give_succeeded(
    seen: tuple[dict[str, int], set[tuple[str, int]]],
) -> None:
    """An app has succeeded when every replica exited 0, and failed when one is gone."""
    roles, present = seen
    complete = len(present) == sum(roles.values())
    app = described(
        [
            own(row("exited", "Exited (0) 2 seconds ago", role=role, replica=i), roles)
            for role, i in present
        ]
    )

    assert (AppState.SUCCEEDED if complete else AppState.FAILED) is app.state
    assert Finish(app.state) == next_step(app)
    assert roles == {status.role: len(status.replicas) for status in app.roles_statuses}


@quick
@given(any_rows())
def test_only_replicas_that_exited_0_succeed(rows: list[ContainerRow]) -> None:
    """SUCCEEDED means that every replica in the labels has succeeded."""
    app = described(rows)
    replicas = replicas_of(app)
    done = all(r.state is AppState.SUCCEEDED and r.exit_code == 0 for r in replicas)

    assert done == (AppState.SUCCEEDED is app.state)
    assert {replica_key(row) for row in rows} <= {(r.role, r.id) for r in replicas}


@pytest.mark.parametrize(
    ("first", "second"), [("created", "running"), ("running", "created")], ids=["old", "new"]
)
def test_the_newest_container_does_not_decide_the_state(first: str, second: str) -> None:
    """An app with a replica that was not started is SUBMITTED, whichever is newest."""
    rows = [row(first), row(second, replica=1, created_at=NOON + timedelta(seconds=1))]

    assert AppState.SUBMITTED is described(rows).state


def test_twelve_of_fifteen_containers_removed_is_not_succeeded() -> None:
    """Replicas in the label without a container are lost, and reported by name."""
    app = described([own(exited(0, replica=i), {"trainer": 15}) for i in (0, 7, 14)])
    lost = replicas_of(app)[1]

    assert AppState.FAILED is app.state
    assert 15 == len(replicas_of(app))
    assert (
        ReplicaStatus(
            id=1,
            state=AppState.FAILED,
            role="trainer",
            hostname="train-x1y2-trainer-1",
            error="its container is gone from the daemon",
        )
        == lost
    )


def test_a_role_without_containers_is_lost() -> None:
    """The label on one role's container shows that another role is lost."""
    app = described([own(exited(0), {"ps": 1, "trainer": 1})])

    assert {"ps/0": "FAILED", "trainer/0": "SUCCEEDED"} == places(app)
    assert ["<NONE>", "img:1"] == [role.image for role in app.roles]


def test_a_container_of_an_unlabelled_role_counts() -> None:
    """An app has not ended while one of its containers runs, whatever the label says."""
    app = described([own(exited(0), {"trainer": 1}), row(role="extra")])

    assert {"trainer/0": "SUCCEEDED", "extra/0": "RUNNING"} == places(app)
    assert Wait() == next_step(app)


def test_an_app_that_is_being_created_has_lost_nothing() -> None:
    """An app that is being created has no lost replicas."""
    app = launched([row("created")])

    assert AppState.SUBMITTED is app.state
    assert {"trainer/0": "SUBMITTED"} == places(app)
    assert Wait() == next_step(app)


def test_an_app_cancelled_during_creation() -> None:
    """An app that was cancelled during its creation does not wait for further containers."""
    app = launched([row("created", cancelled=True)])

    assert {"trainer/0": "CANCELLED", "trainer/1": "FAILED"} == places(app)
    assert Finish(AppState.FAILED) == next_step(app)


def test_an_unknown_app_has_no_description() -> None:
    """An app without containers has no description."""
    assert describe(APP, [], {}) is None


# One replica


def test_details_of_a_failed_replica() -> None:
    """A failed replica has its exit code, signal, memory, restarts and times."""
    seen = exited(137)
    ended = NOON + timedelta(seconds=5)
    found = detail(
        seen, 137, oom_killed=True, error="oom", restarts=2, started_at=NOON, finished_at=ended
    )
    (replica,) = replicas_of(described([seen], [found]))

    assert (
        ReplicaStatus(
            id=0,
            state=AppState.FAILED,
            role="trainer",
            hostname="train-x1y2-trainer-0",
            exit_code=137,
            signal="SIGKILL",
            oom_killed=True,
            error="oom",
            num_restarts=2,
            started_at=NOON,
            finished_at=ended,
            container_id="trainer/0",
            created_at=NOON,
        )
        == replica
    )


def test_what_was_not_inspected_is_unknown() -> None:
    """Restarts and times are None without an inspect."""
    (replica,) = replicas_of(described([exited(0)]))

    assert (None, None, None) == (replica.num_restarts, replica.started_at, replica.finished_at)
    assert (0, None, False, "") == (
        replica.exit_code,
        replica.signal,
        replica.oom_killed,
        replica.error,
    )


def test_an_exit_code_that_the_list_hides_is_inspected() -> None:
    """An exit code that is not in the status comes from the inspect."""
    seen = row("exited", "Ended")

    assert AppState.UNKNOWN is described([seen]).state
    assert AppState.SUCCEEDED is described([seen], [detail(seen, 0)]).state
    assert AppState.FAILED is described([seen], [detail(seen, 1)]).state


def test_a_replica_that_runs_again_has_no_exit_code() -> None:
    """A restarted replica does not have the exit code of its earlier run."""
    seen = row("running")
    (replica,) = replicas_of(described([seen], [detail(seen, 1, restarts=1)]))

    assert (AppState.RUNNING, None, 1) == (replica.state, replica.exit_code, replica.num_restarts)


def test_a_cancelled_replica_keeps_its_host_name() -> None:
    """The host name of a cancelled replica does not have the suffix."""
    (replica,) = replicas_of(described([exited(143, cancelled=True)]))

    assert ("train-x1y2-trainer-0", "SIGTERM") == (replica.hostname, replica.signal)


def test_the_newest_container_of_a_replica_counts() -> None:
    """The newer of two containers of one replica counts."""
    later = NOON + timedelta(seconds=1)
    old = replace(exited(1), id="old", image="img:old")
    new = row("running", id="new", image="img:new", created_at=later)
    app = described([new, old])

    assert ["new"] == [replica.container_id for replica in replicas_of(app)]
    assert ["img:new"] == [role.image for role in app.roles]


# The whole app


def test_replicas_are_in_order() -> None:
    """Roles are in the order of the label, and replicas are sorted by index."""
    roles = {"trainer": 11, "ps": 1}
    rows = [own(row(role="ps"), roles), *(own(row(replica=i), roles) for i in (10, 9, 2))]
    rows += [own(row(replica=i), roles) for i in (0, 1, 3, 4, 5, 6, 7, 8)]
    app = described(rows)

    assert [*(f"trainer/{i}" for i in range(11)), "ps/0"] == list(places(app))
    assert [("trainer", 11), ("ps", 1)] == [(r.name, r.num_replicas) for r in app.roles]
    assert ["trainer", "ps"] == [status.role for status in app.roles_statuses]


def test_metadata_of_a_description() -> None:
    """The metadata has the failure policy and the grace period."""
    app = launched([row(), row(replica=1)], "wait_all")

    assert {FAILURE_POLICY: "wait_all", STOP_GRACE: "2.5"} == app.metadata


def test_an_app_of_the_torchx_command_line() -> None:
    """An app without our labels has the roles of its containers, and no lost replicas."""
    app = described([row(replica=1), row(role="ps"), exited(0, replica=0)])

    assert {"ps/0": "RUNNING", "trainer/0": "SUCCEEDED", "trainer/1": "RUNNING"} == places(app)
    assert [("ps", 1), ("trainer", 2)] == [(role.name, role.num_replicas) for role in app.roles]
    assert {} == app.metadata
    assert AppState.RUNNING is app.state


def test_a_gap_in_an_app_of_the_torchx_command_line_is_a_loss() -> None:
    """A gap in an app of TorchX's command line is a lost replica."""
    app = described([exited(0, replica=0), exited(0, replica=3)])

    assert ["SUCCEEDED", "FAILED", "FAILED", "SUCCEEDED"] == list(places(app).values())
    assert [4] == [role.num_replicas for role in app.roles]
    assert AppState.FAILED is app.state


def test_descriptions_are_json() -> None:
    """Every description can be written as JSON."""
    data = json.loads(json.dumps(to_dict(launched([exited(1)]))))

    assert ("train-x1y2", "FAILED") == (data["app_id"], data["state"])
    assert "img:1" == data["roles"][0]["image"]


# The next step


@pytest.mark.parametrize(
    ("first", "second", "fail_fast", "wait_all"),
    [
        (row("running"), row("running", replica=1), "wait", "wait"),
        (exited(0), row("running", replica=1), "wait", "wait"),
        (exited(0), exited(0, replica=1), "SUCCEEDED", "SUCCEEDED"),
        (exited(1), row("running", replica=1), "trainer/0 lost", "wait"),
        (exited(1), row("created", replica=1), "trainer/0 lost", "wait"),
        (exited(1), row("restarting", replica=1), "trainer/0 lost", "wait"),
        (exited(1), exited(0, replica=1), "FAILED", "FAILED"),
        (exited(1), exited(137, replica=1, cancelled=True), "FAILED", "FAILED"),
        (exited(0, cancelled=True), exited(0, replica=1), "CANCELLED", "CANCELLED"),
        (exited(0, cancelled=True), row("running", replica=1), "wait", "wait"),
        (row("stopped"), exited(0, replica=1), "wait", "wait"),
        (row("running"), None, "trainer/1 lost", "wait"),
        (exited(0), None, "FAILED", "FAILED"),
    ],
    ids=[
        "both run",
        "one is done",
        "both are done",
        "one failed",
        "one failed before the other started",
        "one failed while the other restarts",
        "one failed and the other is done",
        "one failed and the other was stopped",
        "one was cancelled and the other is done",
        "one was cancelled and the other runs",
        "an unknown state",
        "one vanished",
        "one vanished and the other is done",
    ],
)
def test_the_next_step(
    first: ContainerRow, second: ContainerRow | None, fail_fast: str, wait_all: str
) -> None:
    """A failed replica stops its peers under fail_fast, and the app waits under wait_all."""
    rows = [first] if second is None else [first, second]

    assert fail_fast == step_text(next_step(launched(rows)))
    assert wait_all == step_text(next_step(launched(rows, "wait_all")))


def step_text(step: Wait | Place | Finish | Fail | StopAuxiliary | Restart) -> str:
    """Return a step in a word or two."""
    match step:
        case Wait():
            return "wait"
        case Place():
            return "place"
        case Finish(state):
            return str(state)
        case Fail(lost):
            return f"{lost.role}/{lost.id} lost"
        case StopAuxiliary(roles):
            return f"stop {roles}"
        case Restart(roles=roles):
            return f"restart {roles}"


def test_one_failed_replica_of_eight_stops_the_app() -> None:
    """One failed replica of eight stops the app."""
    rows = [row(replica=i) for i in range(7)] + [exited(1, replica=7)]
    app = described([own(row, {"trainer": 8}) for row in rows])
    step = next_step(app)

    assert AppState.FAILED is app.state
    assert isinstance(step, Fail)
    assert 7 == step.lost.id


def test_an_app_of_torchx_is_never_stopped() -> None:
    """An app without a failure policy is never stopped."""
    app = described([exited(1), row(replica=1)])

    assert AppState.FAILED is app.state
    assert Wait() == next_step(app)
    assert Finish(AppState.FAILED) == next_step(described([exited(1), exited(0, replica=1)]))


# The first failure


def failed_at(*times: float | None) -> DescribeAppResponse:
    """Return an app whose replicas failed at these times, in seconds."""
    replicas = [
        ReplicaStatus(
            index,
            AppState.FAILED,
            "trainer",
            f"h{index}",
            finished_at=None if time_s is None else NOON + timedelta(seconds=time_s),
        )
        for index, time_s in enumerate(times)
    ]
    return DescribeAppResponse(roles_statuses=[RoleStatus("trainer", replicas)])


@pytest.mark.parametrize(
    ("times", "blamed"),
    [
        ((3, 1, 2), 1),
        ((3, None, 2), 2),
        ((None, 1), 1),
        ((2, 2, 3), 0),
        ((0.2, 0.1), 1),
        ((None, None), 0),
    ],
)
def test_the_first_failure_by_time(times: tuple[float | None, ...], blamed: int) -> None:
    """The first failure is the earliest by time, or the first replica without times."""
    first = first_failure(failed_at(*times))

    assert first is not None
    assert blamed == first.id


def test_replicas_that_did_not_fail() -> None:
    """A cancelled or succeeded replica is not a failure."""
    rows = [exited(0), exited(137, replica=1, cancelled=True), exited(1, replica=2)]
    ends = [detail(row, finished_at=NOON + timedelta(seconds=i)) for i, row in enumerate(rows)]
    first = first_failure(described(rows, ends))

    assert first is not None
    assert 2 == first.id
    assert first_failure(described(rows[:2], ends)) is None


# All apps


def test_summaries() -> None:
    """An app has one summary, whatever its replicas' states, and summaries are sorted by id."""
    other = {labels.APP_ID: "other-1", labels.ROLE_NAME: "r", labels.REPLICA_ID: "0"}
    ours = [own(row, {"trainer": 2}) for row in (exited(1), row(replica=1))]
    rows = [ours[0], row("dead", id="o", labels=other, cancelled=True), ours[1]]

    assert [
        ListAppResponse("other-1", AppState.CANCELLED, created_at=NOON),
        ListAppResponse(APP, AppState.FAILED, f"local_docker://torchx/{APP}", "train", NOON),
    ] == summaries(rows)


def test_no_containers() -> None:
    """A daemon without containers has no apps."""
    assert [] == summaries([])
