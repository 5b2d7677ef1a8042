"""How an app that has ended is reported, on the fake engine."""

from __future__ import annotations

import pytest

from airflow_torchx.errors import (
    AppCancelledError,
    AppFailedError,
    AppNotFoundError,
    OutOfMemoryError,
    ReplicaLostError,
)
from airflow_torchx.runtime import attach, launching, lifecycle
from airflow_torchx.runtime.root_cause import diagnosed
from airflow_torchx.specs import AppDef, Resource, Role
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import planned


def error_of(engine: FakeEngine) -> AppFailedError:
    """Return the error that the app's outcome raises."""
    ended = attach.look(engine, "app-1", inspect_all=True)
    with pytest.raises(AppFailedError) as caught:
        attach.outcome(engine, ended, None, frozenset(), lambda: False)
    return caught.value


@pytest.mark.parametrize("oom_killed", [True, False])
def test_out_of_memory_is_an_error_of_its_own(*, oom_killed: bool) -> None:
    """A replica that ran out of memory raises OutOfMemoryError; exit code 137 alone does not."""
    programs = {"trainer/1": Program(exit_code=137, oom_killed=oom_killed)}
    engine = FakeEngine(images=["busybox"], programs=programs)
    launching.launch(engine, planned())

    error = error_of(engine)

    assert (OutOfMemoryError if oom_killed else AppFailedError) is type(error)
    assert (137, "trainer/1") == (error.exit_code, error.replica)
    assert oom_killed == ("raise resource.memMB" in str(error))


def half_removed() -> FakeEngine:
    """Return a daemon with an app that was cancelled, and of which one container was removed."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launching.launch(engine, planned())
    lifecycle.cancel(engine, "app-1", grace_s=0)
    engine.remove(engine.rows({})[0].id)
    return engine


def test_an_app_that_is_being_removed_is_not_found() -> None:
    """A look between two removals of another client is not taken for a lost replica."""
    engine = half_removed()
    seen = attach.look(engine, "app-1")
    lifecycle.delete(engine, "app-1")

    with pytest.raises(AppNotFoundError):
        attach.inspected(engine, seen)


def test_a_lost_replica_of_an_app_that_stays() -> None:
    """A replica that is gone while the cancelled others stay is a lost one."""
    engine = half_removed()

    found = attach.inspected(engine, attach.look(engine, "app-1"))

    with pytest.raises(ReplicaLostError):
        attach.outcome(engine, found, None, frozenset(), lambda: False)


def test_a_lost_replica_is_an_error_of_its_own() -> None:
    """A replica whose container another client removed raises ReplicaLostError."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launching.launch(engine, planned())
    (lost,) = [row.id for row in engine.rows({}) if row.name.endswith("-1")]
    engine.remove(lost)

    assert ReplicaLostError is type(error_of(engine))


def test_the_error_of_a_cancelled_app_has_its_last_lines() -> None:
    """An app that another client cancelled has a card, with secrets masked."""
    program = Program(lines=["saved with open-sesame"], runs_for_s=None)
    engine = FakeEngine(images=["busybox"], programs=program)
    launching.launch(engine, planned())
    lifecycle.cancel(engine, "app-1")
    ended = attach.look(engine, "app-1", inspect_all=True)

    with pytest.raises(AppCancelledError) as caught:
        attach.outcome(engine, ended, None, frozenset({"open-sesame"}), lambda: False)

    error = str(caught.value)
    assert error.startswith("app 'app-1' CANCELLED: another client stopped it\n\nreplica ")
    assert 3 == error.count("CANCELLED   143         SIGTERM")
    assert "last 1 line of trainer/0:\n  saved with ***\n" in error


def test_the_path_of_a_result_has_macros() -> None:
    """The macros in the path of a result are those of the replica that wrote it."""
    program = Program(files={"/data/app-1-0$.json": b"3"})
    engine = FakeEngine(images=["busybox"], programs=program)
    launching.launch(engine, planned())
    ended = attach.look(engine, "app-1", inspect_all=True)

    path = "/data/${app_id}-${replica_id}$$.json"
    assert 3 == attach.outcome(engine, ended, path, frozenset(), lambda: False)


def test_the_limit_of_a_replica_that_lacked_memory() -> None:
    """The card says how much memory it had."""
    role = Role("trainer", "busybox", resource=Resource(cpu=-1, gpu=-1, memMB=600))
    program = Program(exit_code=137, oom_killed=True)
    engine = FakeEngine(images=["busybox"], programs=program)
    launching.launch(engine, planned(AppDef("app", [role])))

    text = "out of memory (exit code 137, limit 600 MiB); raise resource.memMB"
    assert text in str(error_of(engine))


def test_the_kernel_killed_another_process() -> None:
    """A failure without SIGKILL does not raise OutOfMemoryError, even if Docker's flag is set."""
    engine = FakeEngine(images=["busybox"], programs=Program(exit_code=1, oom_killed=True))
    launching.launch(engine, planned())

    assert AppFailedError is type(error_of(engine))


def test_the_line_that_an_own_rule_matches() -> None:
    """The card shows it also if later lines push it out of the last ones; secrets are masked."""
    lines = ["shard 7 of open-sesame is corrupt", *(f"later {i}" for i in range(50))]
    engine = FakeEngine(images=["busybox"], programs=Program(lines=lines, exit_code=1))
    launching.launch(engine, planned(failure_rules=["bad_data:fail:shard .* is corrupt"]))
    ended = attach.look(engine, "app-1", inspect_all=True)
    secrets = frozenset({"open-sesame"})

    error = attach.failure(engine, diagnosed(engine, ended, secrets), secrets)

    assert "It matches this line: shard 7 of *** is corrupt\n" in str(error)
    assert "its task is not retried" in str(error)
