"""Restarts of apps and roles, by one client and by several."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import first_name
from airflow_torchx.core.plan.job_plan import LaunchContext, plan
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.rounds import restarts_caused, round_of
from airflow_torchx.errors import (
    AppNotFoundError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
)
from airflow_torchx.runtime import attach, launching, lifecycle, waiting
from airflow_torchx.runtime.replica_log import find_container
from airflow_torchx.specs import AppState, RetryPolicy
from airflow_torchx.testing import Program
from tests.unit.apps import planned, states
from tests.unit.runtime.round_clients import (
    APP,
    CRASH,
    DONE,
    FOREVER,
    Client,
    Daemon,
    Killed,
    app,
    own,
    role,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.protocol import Engine


def launched(daemon: Daemon, *roles: Any, **options: Any) -> Daemon:  # noqa: ANN401 - Role and run options
    """Launch an app on a daemon, and return the daemon.

    Without a grace period, in which one client waits for another one that a test has interrupted.
    """
    launching.launch(daemon.engine, planned(app(*roles), **{"stop_grace_s": 0, **options}))
    return daemon


def test_an_app_restarts_as_a_whole(caplog: pytest.LogCaptureFixture) -> None:
    """A failure under policy APPLICATION stops all replicas and starts new ones of all roles."""
    daemon = Daemon({"trainer/1": [CRASH, CRASH, DONE]}, last=2)
    launched(daemon, role("trainer", 2, retries=3), role("data", 1))

    with caplog.at_level("INFO"):
        ended = own(daemon.engine, daemon.clock)

    assert ended is not None
    assert AppState.SUCCEEDED is ended.state
    assert [
        "0: data/0 trainer/0 trainer/1",
        "1: data/0 trainer/0 trainer/1",
        "2: data/0 trainer/0 trainer/1",
    ] == daemon.rounds()
    assert {2} == {replica.round for replica in replicas_of(ended)}
    assert {"trainer": 2} == daemon.restarts()
    why = "replica trainer/1 failed: exit code 1; restarting the app, restart"
    assert [f"{why} 1 of 3", f"{why} 2 of 3"] == [
        record.getMessage() for record in caplog.records if "restart" in record.getMessage()
    ]


def test_the_containers_of_a_round() -> None:
    """A container of a round has the labels and variables of the launch, and the round."""
    daemon = launched(Daemon({"trainer/0": [CRASH, DONE]}), role(replicas=1, retries=1))
    before = daemon.engine.specs()["app-1-trainer-0"]

    own(daemon.engine, daemon.clock)

    after = daemon.engine.specs()["app-1-trainer-0-r1"]
    assert {**before.env, "TORCHX_RESTART": "1"} == after.env
    assert "0" == before.env["TORCHX_RESTART"]
    assert {
        **before.labels,
        "airflow-torchx/round": "1",
        "airflow-torchx/round-roles": '["trainer"]',
        "airflow-torchx/restarts": '{"trainer": 1}',
    } == after.labels
    assert '{"trainer": ["APPLICATION", 1]}' == before.labels["airflow-torchx/retries"]


@pytest.mark.parametrize("policy", ["fail_fast", "wait_all"])
@pytest.mark.parametrize("retries", [1, 2])
def test_the_budget_is_exact(policy: str, retries: int) -> None:
    """A role that always fails restarts as often as it may, whatever the failure policy."""
    daemon = Daemon({"trainer/1": [CRASH]})
    launched(daemon, role("trainer", 2, retries=retries), failure_policy=policy)
    if policy == "wait_all":
        daemon.engine.programs = lambda spec: CRASH if spec.replica else DONE

    ended = own(daemon.engine, daemon.clock)

    assert ended is not None
    assert AppState.FAILED is ended.state
    assert retries + 1 == len(daemon.rounds())
    assert {"trainer": retries} == daemon.restarts()


def test_a_role_restarts_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A failure under policy ROLE starts new containers of that role, and the others run on."""
    daemon = Daemon({"trainer/1": [CRASH, FOREVER]})
    launched(daemon, role("trainer", 2, retries=3, policy=RetryPolicy.ROLE), role("data", 1))
    data = find_container(daemon.engine, APP, "data", 0)

    with caplog.at_level("INFO"):
        assert own(daemon.engine, daemon.clock, looks=5) is None

    assert "replica trainer/1 failed; stopping 1 other" in caplog.messages
    assert ["0: data/0 trainer/0 trainer/1", "1: trainer/0 trainer/1"] == daemon.rounds()
    assert data == find_container(daemon.engine, APP, "data", 0)
    running = {row.name for row in daemon.rows() if row.state == "running"}
    assert {"app-1-data-0", "app-1-trainer-0-r1", "app-1-trainer-1-r1"} == running


def test_two_roles_have_budgets_of_their_own() -> None:
    """The restarts of each role count by themselves, and rounds over the whole app."""
    daemon = Daemon({"a/0": [CRASH, FOREVER], "b/0": [CRASH]})
    roles = [role(name, 1, retries=2, policy=RetryPolicy.ROLE) for name in ("a", "b")]
    launched(daemon, *roles)

    ended = own(daemon.engine, daemon.clock)

    assert ended is not None
    assert AppState.FAILED is ended.state
    assert {"a": 1, "b": 2} == daemon.restarts()
    assert ["0: a/0 b/0", "1: a/0", "2: b/0", "3: b/0"] == daemon.rounds()


def test_each_auxiliary_role_restarts_within_its_own_budget() -> None:
    """One that failed for good keeps no other one from its restarts; the first by time is next."""
    behaviour = {"board/0": [CRASH], "cache/0": [CRASH], "data/0": [CRASH, FOREVER]}
    roles = [role("trainer", 1), role("board", 1)]
    roles += [role(name, 1, retries=1, policy=RetryPolicy.ROLE) for name in ("cache", "data")]
    daemon = launched(Daemon(behaviour), *roles, essential_roles=["trainer"])

    assert own(daemon.engine, daemon.clock, looks=6) is None

    assert {"cache": 1, "data": 1} == daemon.restarts()
    running = {row.name for row in daemon.rows() if row.state == "running"}
    assert {"app-1-trainer-0", "app-1-data-0-r2"} == running


ROLE = RetryPolicy.ROLE


def with_data_that_cannot_start(policy: RetryPolicy, **trainer: Any) -> Daemon:  # noqa: ANN401 - fields of a role
    """Return an app of which an auxiliary role failed, and cannot be started in round 1."""
    roles = [role("trainer", 2, retries=2, policy=policy), role("data", 2, retries=2, policy=ROLE)]
    daemon = Daemon(
        {"data/0": [CRASH, FOREVER], "trainer/0": [Program(runs_for_s=20, exit_code=1)]}
    )
    daemon = launched(daemon, *roles, essential_roles=["trainer"], **trainer)
    daemon.engine.fail_next("start", EngineError("no such device"), on="data/0")
    assert own(daemon.engine, daemon.clock, looks=4) is None
    return daemon


def test_an_auxiliary_role_that_cannot_be_started(caplog: pytest.LogCaptureFixture) -> None:
    """Its round is finished without that replica, which is not restarted again."""
    daemon = with_data_that_cannot_start(ROLE)

    assert ["FAILED", "RUNNING", "RUNNING", "RUNNING"] == sorted(states(daemon.engine))
    assert {"data": 1} == daemon.restarts()
    assert 1 == caplog.text.count("no such device")
    found = lifecycle.observe(daemon.engine, APP)
    assert found is not None
    assert AppState.RUNNING is found.state


@pytest.mark.parametrize("policy", [ROLE, RetryPolicy.APPLICATION])
def test_an_auxiliary_role_that_cannot_be_started_keeps_no_other_from_a_restart(
    policy: RetryPolicy,
) -> None:
    """A restart of the app is one of all its roles, also of one that failed for good."""
    daemon = with_data_that_cannot_start(policy)
    daemon.clock.advance(30)
    daemon.engine.programs = FOREVER

    assert own(daemon.engine, daemon.clock, looks=4) is None

    assert {"data": 1, "trainer": 1} == restarts_caused(daemon.rows())
    is_whole = policy is RetryPolicy.APPLICATION
    running = {row.name for row in daemon.rows() if row.state == "running"}
    data = {"data-0-r2", "data-1-r2"} if is_whole else {"data-1-r1"}
    assert {f"app-1-{name}" for name in {"trainer-0-r2", "trainer-1-r2", *data}} == running


def test_an_owner_that_is_killed_while_it_restarts_an_auxiliary_role() -> None:
    """Whenever that is, the next owner starts what can be started, and the trainers run on."""
    for death in range(1, 30):
        daemon = Daemon({"data/0": [CRASH, Program(start_error="no such device"), FOREVER]})
        data = role("data", 2, retries=2, policy=ROLE)
        launched(daemon, role("trainer", 1), data, essential_roles=["trainer"])
        client = Client(daemon.engine)
        client.die_at(death)
        with contextlib.suppress(Killed):
            own(client.as_engine, daemon.clock, looks=4)

        assert own(daemon.engine, daemon.clock, looks=4) is None

        assert ["FAILED", "RUNNING", "RUNNING"] == sorted(states(daemon.engine)), death
        assert {"data": 1} == daemon.restarts()


def test_an_owner_that_is_killed_while_an_auxiliary_role_restarts_the_app() -> None:
    """Trainers that were stopped for the round and ended with 0 do not count as succeeded."""
    saves = Program(lines=["up"], runs_for_s=None, term_exit_code=0)
    for death in range(1, 40):
        daemon = Daemon({"data/0": [CRASH, FOREVER], "trainer/0": [saves], "trainer/1": [saves]})
        launched(daemon, role("trainer"), role("data", 1, retries=1), essential_roles=["trainer"])
        client = Client(daemon.engine)
        client.die_at(death)
        with contextlib.suppress(Killed):
            own(client.as_engine, daemon.clock, looks=4)

        assert own(daemon.engine, daemon.clock, looks=4) is None, death

        assert {"data": 1} == daemon.restarts()
        running = {first_name(row.name) for row in daemon.rows() if row.state == "running"}
        assert {f"app-1-{name}-r1" for name in ("trainer-0", "trainer-1", "data-0")} == running
        daemon.assert_each_ran_once()


FULL = Program(lines=["OSError: [Errno 28] No space left on device"], exit_code=1)


@pytest.mark.parametrize("policy", [ROLE, RetryPolicy.APPLICATION])
def test_a_failure_rule_is_final_for_an_auxiliary_role(policy: RetryPolicy) -> None:
    """The role is not restarted, and the other ones run on in their containers."""
    data = role("data", 1, retries=2, policy=policy)
    daemon = launched(
        Daemon({"data/0": [FULL]}), role("trainer"), data, essential_roles=["trainer"]
    )
    daemon.clock.advance(1)

    assert own(daemon.engine, daemon.clock, looks=4) is None

    running = {row.name for row in daemon.rows() if row.state == "running"}
    assert {"app-1-trainer-0", "app-1-trainer-1"} == running
    assert ["0: data/0 trainer/0 trainer/1"] == daemon.rounds()


def test_a_restart_that_an_auxiliary_role_causes_and_that_cannot_be_made() -> None:
    """The app fails, because its trainers were stopped."""
    daemon = Daemon({"data/0": [CRASH]})
    launched(daemon, role("trainer"), role("data", 1, retries=2), essential_roles=["trainer"])
    daemon.engine.fail_next("clone", EngineError("no space left"), on="trainer/1")

    ended = own(daemon.engine, daemon.clock)

    assert ended is not None
    assert AppState.FAILED is ended.state


def test_an_auxiliary_round_that_is_unfinished_when_the_app_ends() -> None:
    """What no essential replica needs any more is not started."""
    for death in range(1, 40):
        daemon = Daemon({"data/0": [CRASH, FOREVER]})
        data = role("data", 2, retries=2, policy=ROLE)
        launched(daemon, role("trainer", 1), data, essential_roles=["trainer"])
        client = Client(daemon.engine)
        client.die_at(death)
        with contextlib.suppress(Killed):
            own(client.as_engine, daemon.clock, looks=4)
        ran = daemon.rounds()
        daemon.engine.end("app-1-trainer-0", 0)

        ended = own(daemon.engine, daemon.clock)

        assert ended is not None
        assert AppState.SUCCEEDED is ended.state
        assert not any(row.state == "running" for row in daemon.rows()), death
        assert ran == daemon.rounds() or any("1:" in one for one in ran), death


def test_docker_restarts_a_replica() -> None:
    """Under policy REPLICA, the daemon restarts the container, and no round is made."""
    plan = planned(app(role(retries=2, policy=RetryPolicy.REPLICA)))

    assert 2 == plan.containers[0].max_restarts
    assert labels.RETRIES not in plan.containers[0].labels
    assert "TORCHX_RESTART" not in plan.containers[0].env
    assert 0 == planned(app(role(retries=2))).containers[0].max_restarts


def test_out_of_memory_does_not_restart() -> None:
    """A replica that was killed for its memory would be killed again."""
    killed = Program(lines=["up"], exit_code=137, oom_killed=True)
    daemon = launched(Daemon({"trainer/1": [killed]}), role(retries=2))

    ended = own(daemon.engine, daemon.clock)

    assert ended is not None
    assert AppState.FAILED is ended.state
    assert ["0: trainer/0 trainer/1"] == daemon.rounds()


def test_out_of_memory_in_a_round_does_not_restart() -> None:
    """The budget that is left does not count."""
    killed = Program(lines=["up"], exit_code=137, oom_killed=True)
    daemon = launched(Daemon({"trainer/1": [CRASH, killed]}), role(retries=5))

    ended = own(daemon.engine, daemon.clock)

    assert ended is not None
    assert AppState.FAILED is ended.state
    assert {"trainer": 1} == daemon.restarts()


def test_an_owner_that_is_asked_to_end_leaves_the_round_to_the_next_one() -> None:
    """The replicas that it has stopped wait for the round: the app is PENDING, and not over."""
    daemon = launched(Daemon({"trainer/0": [CRASH, FOREVER]}), role(retries=2))

    assert waiting.poll_once(daemon.engine, APP, should_stop=lambda: True) is None

    assert ["app-1-trainer-0", "app-1-trainer-1.restarting"] == [row.name for row in daemon.rows()]
    assert ["PENDING", "PENDING"] == states(daemon.engine)
    assert own(daemon.engine, daemon.clock, looks=3) is None
    assert ["RUNNING", "RUNNING"] == states(daemon.engine)
    assert {"trainer": 1} == daemon.restarts()


@pytest.mark.parametrize(("code", "rounds"), [(42, 1), (7, 2)])
def test_an_excluded_exit_code_does_not_restart(code: int, rounds: int) -> None:
    """The label has the exit codes that mean the same in the next round."""
    failing = Program(lines=["up"], exit_code=code)
    daemon = Daemon({"trainer/1": [failing]})
    plan = planned(app(role(retries=1)))
    for one in plan.containers:
        one.labels[labels.NO_RESTART_EXIT_CODES] = "3,42"  # type: ignore[index]
    launching.launch(daemon.engine, plan)

    own(daemon.engine, daemon.clock)

    assert rounds == len(daemon.rounds())


def test_a_restart_is_due_for_every_client() -> None:
    """Between two rounds, the app is PENDING in its status and in the list."""
    daemon = launched(Daemon({"trainer/0": [CRASH]}), role(replicas=1, retries=1))

    assert ["PENDING"] == states(daemon.engine)
    assert [AppState.PENDING] == [found.state for found in lifecycle.apps(daemon.engine)]
    found = lifecycle.observe(daemon.engine, APP)
    assert found is not None
    assert {
        "round": 1,
        "roles": ["trainer"],
        "lost": "trainer/0",
        "role": "trainer",
        "used": 1,
        "maximum": 1,
    } == json.loads(found.metadata["restart"])


def test_a_list_knows_that_memory_does_not_restart() -> None:
    """The list asks for the cause of a failure, so that it agrees with the status."""
    killed = Program(exit_code=137, oom_killed=True)
    daemon = launched(Daemon({"trainer/0": [killed]}), role(replicas=1, retries=1))

    assert ["FAILED"] == states(daemon.engine)
    assert [AppState.FAILED] == [found.state for found in lifecycle.apps(daemon.engine)]


@pytest.mark.parametrize("read", ["observe", "apps", "poll_once"])
def test_only_containers_that_count_are_inspected(read: str) -> None:
    """A restarted app costs no request for the failures of earlier rounds."""
    daemon = launched(Daemon({"trainer/0": [CRASH, CRASH, CRASH, FOREVER]}), role(retries=3))
    own(daemon.engine, daemon.clock, looks=6)
    assert 8 == len(daemon.rows())
    daemon.engine.calls.clear()

    if read == "apps":
        lifecycle.apps(daemon.engine)
    elif read == "observe":
        lifecycle.observe(daemon.engine, APP)
    else:
        waiting.poll_once(daemon.engine, APP)

    assert "inspect" not in daemon.engine.calls


def test_a_cancel_between_two_rounds_is_final() -> None:
    """An app that is cancelled while nothing of it runs is not restarted."""
    daemon = launched(Daemon({"trainer/0": [CRASH], "trainer/1": [DONE]}), role(retries=1))

    lifecycle.cancel(daemon.engine, APP)

    assert ["CANCELLED", "SUCCEEDED"] == states(daemon.engine)
    ended = own(daemon.engine, daemon.clock)
    assert ended is not None
    assert AppState.CANCELLED is ended.state
    assert 2 == len(daemon.rows())


def test_the_stop_of_a_task_between_two_rounds_is_final() -> None:
    """A task that is ended cancels its app also if nothing of it runs, and keeps its containers."""
    daemon = launched(Daemon({"trainer/0": [CRASH]}), role(replicas=1, retries=1))

    lifecycle.stop_launch(daemon.engine, APP, "one", grace_s=1, keep=True)

    assert ["CANCELLED"] == states(daemon.engine)


def test_a_delete_removes_all_rounds() -> None:
    """A delete leaves no container of any round."""
    daemon = launched(Daemon({"trainer/0": [CRASH, FOREVER]}), role(retries=1))
    own(daemon.engine, daemon.clock, looks=3)
    assert 4 == len(daemon.rows())

    lifecycle.delete(daemon.engine, APP)

    assert [] == daemon.rows()


def test_a_removal_of_old_rounds_does_not_reset_the_budget() -> None:
    """Each container of a round has all restarts so far."""
    daemon = launched(Daemon({"trainer/0": [CRASH]}), role(replicas=1, retries=2))
    for _ in range(2):
        waiting.poll_once(daemon.engine, APP)
        for row in daemon.rows()[:-1]:
            daemon.engine.remove(row.id)

    assert ["FAILED"] == states(daemon.engine)
    assert {"trainer": 2} == daemon.restarts()


def test_a_replica_that_is_gone_does_not_restart() -> None:
    """A container that was removed cannot be cloned, so the app fails."""
    daemon = launched(Daemon({"trainer/0": [CRASH]}), role(retries=2))
    daemon.engine.remove("app-1-trainer-1")

    ended = own(daemon.engine, daemon.clock)

    assert ended is not None
    assert AppState.FAILED is ended.state


def test_a_replica_of_a_round_that_is_gone_is_lost() -> None:
    """A container of a round that runs is not replaced by the one of the round before."""
    daemon = launched(Daemon({"trainer/0": [CRASH, FOREVER]}), role(retries=1))
    own(daemon.engine, daemon.clock, looks=3)

    daemon.engine.remove("app-1-trainer-1-r1")

    assert ["RUNNING", "FAILED"] == states(daemon.engine)


@pytest.mark.parametrize("error", [EngineError("no space left"), EngineNotFoundError("no image")])
def test_a_round_that_cannot_be_created(
    error: EngineError, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure is final for every client, and the log says why."""
    daemon = launched(Daemon({"trainer/0": [CRASH]}), role(retries=2))
    daemon.engine.fail_next("clone", error, on="trainer/1")

    ended = own(daemon.engine, daemon.clock)

    assert ended is not None
    assert AppState.FAILED is ended.state
    assert f"cannot restart app app-1: {error}" in caplog.text
    assert {"app-1-trainer-0.failed", "app-1-trainer-1.restarting"} == {
        row.name for row in daemon.rows()
    }
    assert ["FAILED", "CANCELLED"] == states(daemon.engine)
    first = replicas_of(ended)[0]
    assert (1, "app-1-trainer-0") == (first.exit_code, first.hostname)


@pytest.mark.parametrize("kind", [EngineError, EngineNotFoundError])
def test_a_round_that_cannot_be_started(
    kind: type[EngineError], caplog: pytest.LogCaptureFixture
) -> None:
    """A replica that does not start fails the app, whatever the budget.

    For a network that is gone, the Engine answers like for a container that is gone.
    """
    daemon = launched(Daemon({"trainer/0": [CRASH, FOREVER]}), role(retries=2))
    daemon.engine.fail_next("start", kind("no such device"), on="trainer/1")

    ended = own(daemon.engine, daemon.clock)

    assert ended is not None
    assert ["CANCELLED", "FAILED"] == states(daemon.engine)
    assert "cannot start container app-1-trainer-1-r1: no such device" in caplog.text


@pytest.mark.parametrize("policy", ["fail_fast", "wait_all"])
def test_an_owner_that_is_killed_in_a_round_that_cannot_be_started(policy: str) -> None:
    """The app ends, also if some containers of the round were never started."""
    for death in range(1, 30):
        daemon = Daemon({"trainer/0": [CRASH, Program(start_error="no such device")]}, last=1)
        launched(daemon, role("trainer", 3, retries=2), failure_policy=policy)
        client = Client(daemon.engine)
        client.die_at(death)
        with contextlib.suppress(Killed):
            own(client.as_engine, daemon.clock, looks=6)

        ended = own(daemon.engine, daemon.clock)

        assert ended is not None, death
        assert AppState.FAILED is ended.state
        assert {"trainer": 1} == daemon.restarts()


def test_a_container_that_ends_while_it_gets_its_name() -> None:
    """It has started: what it ended with counts, although the daemon refuses the name.

    Docker has no network of a container that it is about to restart, and answers "not found".
    """
    daemon = launched(Daemon({"trainer/0": [CRASH]}, last=2), role(retries=3))

    def refuse(verb: str, name: str) -> None:
        if verb == "start" and "trainer-0-r" in name:
            error = EngineNotFoundError("sandbox 0f not found")
            daemon.engine.fail_next("rename", error, on="trainer/0")

    daemon.engine.before = refuse
    ended = own(daemon.engine, daemon.clock)

    assert ended is not None
    assert {"trainer": 3} == daemon.restarts()
    assert 1 == replicas_of(ended)[0].exit_code


def test_a_launch_without_a_waiting_process_has_no_restarts() -> None:
    """Such a launch has no label with a budget; its warning is tested with the plan."""
    context = LaunchContext(
        app_id=APP, handle="h", launch_id="one", environ={}, is_waited_for=False
    )
    made = plan(app(role(retries=2)), Opts(), context)

    assert labels.RETRIES not in made.containers[0].labels


# Clients that are killed, and several at once.


def scene() -> Daemon:
    """Return an app of which a replica fails in rounds 0 and 1, and that succeeds in round 2."""
    daemon = Daemon({"trainer/1": [CRASH, CRASH, DONE]}, last=2)
    return launched(daemon, role("trainer", 2, retries=2), role("data", 1))


def calls_of_the_owner() -> int:
    """Return how many requests an owner makes from the first failure to the end."""
    daemon = scene()
    client = Client(daemon.engine)
    own(client.as_engine, daemon.clock)
    return client.calls


CALLS = calls_of_the_owner()


def assert_succeeded(daemon: Daemon) -> None:
    """Fail unless each of three rounds ran once, and the last one succeeded."""
    ended = own(daemon.engine, daemon.clock)
    assert ended is not None
    assert AppState.SUCCEEDED is ended.state
    names = "data/0 trainer/0 trainer/1"
    assert [f"0: {names}", f"1: {names}", f"2: {names}"] == daemon.rounds()
    assert {"trainer": 2} == daemon.restarts()
    daemon.assert_each_ran_once()


@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_an_owner_that_is_killed(call: int) -> None:
    """Whenever an owner is killed, the next one finishes the round, and no restart is lost."""
    daemon = scene()
    client = Client(daemon.engine)
    client.die_at(call)

    with pytest.raises(Killed):
        own(client.as_engine, daemon.clock)

    assert_succeeded(daemon)


@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_an_owner_that_is_overtaken(call: int) -> None:
    """Whenever another owner acts between two requests of this one, each container runs once."""
    daemon = scene()
    client = Client(daemon.engine)
    client.at[call] = lambda: own(daemon.engine, daemon.clock)

    own(client.as_engine, daemon.clock)

    assert_succeeded(daemon)


@pytest.mark.parametrize("call", range(1, CALLS + 1, 5))
def test_an_owner_that_is_overtaken_by_one_that_is_killed(call: int) -> None:
    """This holds if the other one is killed at any request meanwhile."""
    for death in range(1 + call % 3, CALLS + 1, 3):
        daemon = scene()
        client, other = Client(daemon.engine), Client(daemon.engine)
        other.die_at(death)

        def overtake(other: Client = other, daemon: Daemon = daemon) -> None:
            with contextlib.suppress(Killed):
                own(other.as_engine, daemon.clock)

        client.at[call] = overtake
        own(client.as_engine, daemon.clock)
        assert_succeeded(daemon)


@pytest.mark.parametrize("call", range(1, CALLS + 1, 5))
def test_two_owners_take_turns(call: int) -> None:
    """This holds if each of two owners stops in the middle while the other goes on."""
    for pause in range(1 + call % 3, CALLS + 1, 3):
        daemon = scene()
        client, other = Client(daemon.engine), Client(daemon.engine)
        paused, resumed = threading.Event(), threading.Event()

        def rest(paused: threading.Event = paused, resumed: threading.Event = resumed) -> None:
            paused.set()
            resumed.wait(60)

        other.at[pause] = rest

        def run_other(other: Client = other, daemon: Daemon = daemon) -> None:
            own(other.as_engine, daemon.clock)

        thread = threading.Thread(target=run_other)

        def overtake(thread: threading.Thread = thread, paused: threading.Event = paused) -> None:
            thread.start()
            while thread.is_alive() and not paused.wait(0.001):
                pass

        client.at[call] = overtake
        own(client.as_engine, daemon.clock)
        resumed.set()
        thread.join(60)
        assert_succeeded(daemon)


@pytest.mark.parametrize("call", range(1, CALLS + 1))
@pytest.mark.parametrize("act", [lifecycle.cancel, lifecycle.delete])
def test_an_app_that_is_cancelled_or_deleted_meanwhile(
    act: Callable[[Engine, str], None], call: int
) -> None:
    """A cancel or a delete wins at any request of an owner, and nothing runs on."""
    daemon = scene()
    client = Client(daemon.engine)
    client.at[call] = lambda: act(daemon.engine, APP)

    try:
        ended = own(client.as_engine, daemon.clock)
    except AppNotFoundError:
        ended = None

    assert [] == [row.name for row in daemon.rows() if row.state == "running"]
    if act is lifecycle.delete:
        assert [] == daemon.rows()
    elif ended is not None and ended.state is not AppState.SUCCEEDED:
        assert AppState.CANCELLED is ended.state
    daemon.assert_each_ran_once()


@pytest.mark.parametrize("act", [lifecycle.cancel, lifecycle.delete])
def test_an_owner_that_acts_while_another_client_cancels_or_deletes(
    act: Callable[[Engine, str], None],
) -> None:
    """A cancel or a delete wins at any of its own requests."""
    for failures in range(3):
        counted = scene()
        own(counted.engine, counted.clock, looks=failures)
        client = Client(counted.engine)
        act(client.as_engine, APP)
        for call in range(1, client.calls + 1):
            daemon = scene()
            own(daemon.engine, daemon.clock, looks=failures)
            other = Client(daemon.engine)

            def look(daemon: Daemon = daemon) -> None:
                with contextlib.suppress(AppNotFoundError):
                    own(daemon.engine, daemon.clock, 1)

            other.at[call] = look
            act(other.as_engine, APP)

            assert [] == [row.name for row in daemon.rows() if row.state == "running"]
            if act is lifecycle.delete:
                assert [] == daemon.rows()
            else:
                ended = own(daemon.engine, daemon.clock)
                assert ended is not None
                # Round 2 succeeds at once.
                assert ended.state in {AppState.CANCELLED, AppState.SUCCEEDED}
            assert {0, 1, 2} >= set(map(round_of, daemon.rows()))


def test_a_failure_that_two_owners_blame_on_two_roles_counts_once() -> None:
    """The client that creates the first container decides which role caused the restart."""
    for death in range(1, CALLS + 1):
        daemon = launched(Daemon({}, last=1), role("trainer", retries=3), role("data", retries=3))
        daemon.clock.advance(100)
        daemon.engine.end("app-1-data-1", 1)
        client, other = Client(daemon.engine), Client(daemon.engine)
        other.die_at(death)

        def overtake(daemon: Daemon = daemon, other: Client = other) -> None:
            daemon.clock.advance(-60)
            daemon.engine.end("app-1-trainer-1", 1)
            with contextlib.suppress(Killed):
                own(other.as_engine, daemon.clock)

        client.at[3] = overtake  # after it has seen which replica failed
        ended = own(client.as_engine, daemon.clock)

        assert ended is not None
        assert AppState.SUCCEEDED is ended.state
        assert restarts_caused(daemon.rows()) in ({"data": 1}, {"trainer": 1})
        daemon.assert_each_ran_once()


def test_the_exit_code_of_a_worker_is_final() -> None:
    """Torchrun ends with 1, but its worker with an exit code that does not restart the app."""
    text = (Path(__file__).parents[1] / "core/state/torchrun/exit-85.log").read_text()
    log = [line.split(" ", 1)[1] for line in text.splitlines()]
    torchrun = Program(lines=log, exit_code=1)
    daemon = Daemon({"trainer/1": [torchrun]})
    context = LaunchContext(
        app_id=APP, handle="h", launch_id="one", environ={}, final_exit_codes=[85]
    )
    launching.launch(daemon.engine, plan(app(role(retries=2)), Opts(), context))

    ended = own(daemon.engine, daemon.clock)

    assert ended is not None
    assert AppState.FAILED is ended.state
    assert ["app-1-trainer-0.restarting", "app-1-trainer-1.failed"] == [
        row.name for row in daemon.rows()
    ]


@pytest.mark.parametrize(("log", "rounds"), [("killed", 1), ("exit-85", 3)])
def test_a_worker_that_lacked_memory_is_final(log: str, rounds: int) -> None:
    """Docker's flag alone is not: the kernel may have killed any other process before."""
    text = (Path(__file__).parents[1] / f"core/state/torchrun/{log}.log").read_text()
    lines = [line.split(" ", 1)[1] for line in text.splitlines()]
    torchrun = Program(lines=lines, exit_code=1, oom_killed=True)
    daemon = launched(Daemon({"trainer/1": [torchrun]}), role(retries=2))

    ended = own(daemon.engine, daemon.clock)

    assert ended is not None
    assert AppState.FAILED is ended.state
    assert rounds == len(daemon.rounds())


def test_the_card_says_why_an_app_was_restarted() -> None:
    """The card of the last round has the first failure of each earlier one."""
    daemon = launched(Daemon({"trainer/1": [CRASH]}), role(retries=2))
    daemon.clock.advance(1)
    own(daemon.engine, daemon.clock)

    ended = attach.look(daemon.engine, APP, inspect_all=True)
    card = attach.card(daemon.engine, ended, frozenset())

    assert card.splitlines()[:4] == [
        "app 'app-1' FAILED: trainer/1 failed first: exit code 1",
        "It was restarted 2 times:",
        "  round 0: trainer/1: exit code 1",
        "  round 1: trainer/1: exit code 1",
    ]
    assert "round 2, failed first" in card


def test_a_failure_rule_is_final() -> None:
    """A failure that a rule calls final does not restart the app."""
    full = Program(lines=["OSError: [Errno 28] No space left on device"], exit_code=1)
    daemon = launched(Daemon({"trainer/1": [full]}), role(retries=2))

    ended = own(daemon.engine, daemon.clock)

    assert ended is not None
    assert AppState.FAILED is ended.state
    assert 2 == len(daemon.rows())


def test_an_outage_does_not_restart_a_final_failure() -> None:
    """Whether a failure is final is decided once its evidence can be read."""
    full = Program(lines=["OSError: [Errno 28] No space left on device"], exit_code=1)
    daemon = launched(Daemon({"trainer/1": [full]}), role(retries=2))
    daemon.clock.advance(1)
    away = EngineUnreachableError("the daemon is away", fix="Wait.")
    daemon.engine.fail_next("logs", away)

    with pytest.raises(EngineUnreachableError):
        own(daemon.engine, daemon.clock)
    ended = own(daemon.engine, daemon.clock)

    assert ended is not None
    assert AppState.FAILED is ended.state
    assert 2 == len(daemon.rows())
