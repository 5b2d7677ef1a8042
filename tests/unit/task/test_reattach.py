"""Reattaching to apps of earlier tries, and cleaning them up, on the fake engine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.demand import GpuDemand
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.core.plan.job_plan import JobPlan, LaunchContext, plan
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.task.reconcile import CleanUp, Decision, reconcile
from airflow_torchx.core.task.record import (
    LAUNCHING,
    RESULT_REJECTED,
    SUCCEEDED,
    LaunchedApp,
    TaskRecord,
)
from airflow_torchx.errors import EngineError, LaunchError
from airflow_torchx.runtime import launching, lifecycle, waiting
from airflow_torchx.runtime.gpus import task_places
from airflow_torchx.specs import AppState
from airflow_torchx.task import reattach
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import app

if TYPE_CHECKING:
    from airflow_torchx.testing import Verb

FIRST = TaskAttempt(
    dag_id="dag", run_id="run", task_id="task", map_index=-1, max_tries=2, try_number=1
)
RETRY = replace(FIRST, try_number=2)
CLEARED = replace(FIRST, max_tries=5, try_number=4)
HASH = "hash-1"
SUPERSEDED = CleanUp(FIRST.app_id, "superseded")


def planned(attempt: TaskAttempt = FIRST, config_hash: str = HASH, **options: object) -> JobPlan:
    """Return the plan of an attempt, with two replicas."""
    launch = LaunchContext(
        app_id=attempt.app_id,
        handle=f"local_docker://torchx/{attempt.app_id}",
        launch_id=f"launch-{attempt.try_number}",
        environ={},
        labels={**attempt.labels, labels.CONFIG_HASH: config_hash},
    )
    return plan(app(2), Opts.parse(options), launch)


def engine_with(program: Program) -> FakeEngine:
    """Return an engine on which the first attempt has launched its app."""
    engine = FakeEngine(images=["busybox"], programs=program)
    launching.launch(engine, planned(stop_grace_s=3))
    return engine


def reconciled(
    engine: FakeEngine,
    attempt: TaskAttempt = RETRY,
    config_hash: str = HASH,
    record: TaskRecord | None = None,
    *,
    durable: bool = True,
) -> Decision:
    """Return the decision of an attempt."""
    apps = reattach.apps_of(engine, attempt)
    return reconcile(attempt, config_hash if durable else None, apps, record)


def record(phase: str, result: object = None) -> TaskRecord:
    """Return the record of the first attempt."""
    return TaskRecord(
        app_id=FIRST.app_id,
        handle="local_docker://torchx/x",
        max_tries=FIRST.max_tries,
        config_hash=HASH,
        phase=phase,
        result=result,
    )


FOREVER = Program(runs_for_s=None)
DONE = Program()
BROKEN = Program(exit_code=1)


def test_a_task_without_apps_launches_one() -> None:
    """A task without apps launches one, even if an earlier process recorded its launch."""
    engine = FakeEngine(images=["busybox"])

    assert Decision() == reconciled(engine)
    assert Decision() == reconciled(engine, record=record(LAUNCHING))


def test_a_retry_reattaches_to_a_running_app() -> None:
    """A retry reads launch id, handle and grace period of a running app from its labels."""
    decision = reconciled(engine_with(FOREVER))

    assert decision.reattach is not None
    assert () == decision.clean_up
    assert (
        LaunchedApp(
            app_id=FIRST.app_id,
            handle=f"local_docker://torchx/{FIRST.app_id}",
            launch_id="launch-1",
            config_hash=HASH,
            stop_grace_s=3,
        )
        == decision.reattach.launched_app
    )


def test_an_app_that_has_succeeded_is_collected() -> None:
    """A retry collects an app that succeeded after the process of its try died."""
    decision = reconciled(engine_with(DONE), record=record(LAUNCHING))

    assert decision.reattach is not None
    assert FIRST.app_id == decision.reattach.app.app_id


def test_an_app_whose_result_was_rejected_is_launched_again() -> None:
    """A retry launches an app again if the result of the earlier one was rejected."""
    decision = reconciled(engine_with(DONE), record=record(RESULT_REJECTED))

    assert Decision(clean_up=(SUPERSEDED,)) == decision


def test_a_recorded_result_is_used() -> None:
    """A recorded result is used whether the containers exist or not."""
    known = record(SUCCEEDED, {"loss": 0.1})

    assert Decision(recorded=known) == reconciled(FakeEngine(), record=known)
    assert Decision(recorded=known, clean_up=(SUPERSEDED,)) == reconciled(
        engine_with(DONE), record=known
    )


@pytest.mark.parametrize("program", [FOREVER, DONE])
@pytest.mark.parametrize(
    ("attempt", "config_hash"),
    [(CLEARED, HASH), (RETRY, "another hash")],
    ids=["cleared", "changed"],
)
def test_a_cleared_or_changed_task_launches_again(
    program: Program, attempt: TaskAttempt, config_hash: str
) -> None:
    """A cleared or changed task stops its earlier app and ignores the record."""
    decision = reconciled(engine_with(program), attempt, config_hash, record(SUCCEEDED, 1))

    assert Decision(clean_up=(SUPERSEDED,)) == decision


def test_a_retry_reattaches_to_an_app_with_a_hash_of_another_version() -> None:
    """An upgrade that changes the hash does not stop a running app."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned(config_hash="v1-a"))

    assert Decision(clean_up=(SUPERSEDED,)) == reconciled(engine, config_hash="v1-b")
    assert reconciled(engine, config_hash="v2-b").reattach is not None


@pytest.mark.parametrize("program", [FOREVER, DONE, BROKEN])
def test_without_durable_every_earlier_app_is_superseded(program: Program) -> None:
    """A task that is not durable stops its earlier app and launches a new one."""
    decision = reconciled(engine_with(program), durable=False)

    assert Decision(clean_up=(SUPERSEDED,)) == decision


def test_an_app_that_has_failed_is_launched_again() -> None:
    """A retry launches a failed app again, even while other replicas of it still run."""
    assert Decision(clean_up=(SUPERSEDED,)) == reconciled(engine_with(BROKEN))
    half = FakeEngine(images=["busybox"], programs={"trainer/0": BROKEN, "trainer/1": FOREVER})
    launching.launch(half, planned())

    assert Decision(clean_up=(SUPERSEDED,)) == reconciled(half)


@pytest.mark.parametrize(("created", "started"), [(1, 0), (2, 0), (2, 1)])
def test_an_incomplete_launch_is_cleaned_up(created: int, started: int) -> None:
    """A launch whose process was killed between two requests is cleaned up as incomplete."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    engine.create_network("torchx")
    ids = [engine.create(spec) for spec in planned().containers[:created]]
    for container in ids[:started]:
        engine.start(container)

    assert Decision(clean_up=(CleanUp(FIRST.app_id, "incomplete"),)) == reconciled(engine)


def test_apps_of_other_task_instances_are_ignored() -> None:
    """Apps of another map index or another run are ignored."""
    engine = engine_with(FOREVER)

    assert [] == reattach.apps_of(engine, replace(RETRY, map_index=0))
    assert [] == reattach.apps_of(engine, replace(RETRY, run_id="other"))


@pytest.mark.parametrize("keep", [True, False])
def test_superseded_apps_are_kept_and_incomplete_launches_removed(keep: bool) -> None:
    """With ``keep``, containers of superseded apps stay, but not those of incomplete launches."""
    engine = engine_with(FOREVER)
    left = replace(CLEARED, try_number=9)
    engine.create(planned(left).containers[0])

    reattach.clean_up(engine, reconciled(engine, CLEARED).clean_up, keep=keep)

    states = [row.state for row in engine.rows({labels.DAG_ID: "dag"})]
    assert (["exited", "exited"] if keep else []) == states


def test_cleaning_up_an_app_that_is_gone_is_not_an_error() -> None:
    """An app that was removed after the decision needs no clean-up."""
    engine = engine_with(FOREVER)
    decision = reconciled(engine, CLEARED)
    lifecycle.delete(engine, FIRST.app_id)

    reattach.clean_up(engine, decision.clean_up, keep=False)

    assert () == engine.rows({labels.DAG_ID: "dag"})


def test_a_retry_keeps_the_claim_of_the_launch_that_it_cleans_up() -> None:
    """The GPUs that a killed try has claimed are there for the next one."""
    engine = FakeEngine(images=["busybox"], gpus=1)
    spec = planned().containers[0]
    engine.create(replace(spec, labels={**spec.labels, labels.GPUS: "GPU-0"}))
    own = {**FIRST.labels, labels.GPU_APP: FIRST.app_id}
    demand = GpuDemand(key="k", count=1, listed=("GPU-0",), image="busybox", labels=own)
    engine.create(demand.spec("claim", ids=["GPU-0"]))

    reattach.clean_up(engine, reconciled(engine).clean_up, keep=False)

    assert ["airflow-torchx-gpu-claim-k"] == [*engine.specs()]


def test_an_app_of_a_later_clear_is_left_alone() -> None:
    """The last try stops apps of earlier tries, but none that a later clear launched."""
    engine = engine_with(FOREVER)
    launching.launch(engine, planned(CLEARED))

    def unneeded(attempt: TaskAttempt) -> set[str]:
        return {one.app_id for one in reattach.unneeded(engine, attempt, keep=False)}

    assert {FIRST.app_id} == unneeded(FIRST)
    assert {FIRST.app_id, CLEARED.app_id} == unneeded(replace(CLEARED, try_number=5))


@pytest.mark.parametrize(("program", "expected"), [(FOREVER, 1), (DONE, 0)])
def test_an_app_with_a_replica_that_still_runs_is_unneeded(program: Program, expected: int) -> None:
    """With ``keep``, a failed app is left out only if no replica of it runs."""
    engine = FakeEngine(images=["busybox"], programs={"trainer/0": BROKEN, "trainer/1": program})
    launching.launch(engine, planned())

    assert expected == len(reattach.unneeded(engine, RETRY, keep=True))


def test_an_app_of_a_committed_image_is_not_the_task_s() -> None:
    """A user's app that runs an image with a task's labels is neither used nor cleaned up."""
    engine = engine_with(FOREVER)
    inherited = {**FIRST.labels, labels.CONFIG_HASH: HASH}
    context = LaunchContext(app_id="debug-1", handle="h", launch_id="l", environ={})
    launching.launch(engine, plan(app(1), Opts(), replace(context, labels=inherited)))

    assert [FIRST.app_id] == [one.app.app_id for one in reattach.apps_of(engine, FIRST)]


def test_an_app_with_an_id_of_an_earlier_release_is_found() -> None:
    """An app whose id and names were derived in another way is adopted, stopped and removed."""
    engine, job = FakeEngine(images=["busybox"], programs=FOREVER), planned()
    old_id = "retraining_weekly-train-955179c2d5e1-m2-t1"
    containers = tuple(
        replace(
            spec,
            name=f"eekly-train-955179c2d5e1-m2-t1-trainer-{spec.replica}",
            labels={**spec.labels, labels.APP_ID: old_id},
        )
        for spec in job.containers
    )
    launching.launch(engine, replace(job, app_id=old_id, containers=containers))

    found = reconciled(engine).reattach

    assert found is not None
    assert (old_id, AppState.RUNNING) == (found.app.app_id, found.app.state)
    lifecycle.stop_launch(engine, old_id, job.launch_id, grace_s=0)
    assert () == engine.rows({})


def test_a_reattached_app_can_be_stopped() -> None:
    """A reattached app is stopped by the id of its own launch."""
    engine = engine_with(FOREVER)
    found = reconciled(engine).reattach
    assert found is not None

    lifecycle.stop_launch(engine, FIRST.app_id, found.launched_app.launch_id, grace_s=0)

    assert () == engine.rows({labels.DAG_ID: "dag"})


def test_a_failed_launch_leaves_no_app() -> None:
    """A failed launch is undone, so a retry launches again."""
    engine = FakeEngine(images=["busybox"])
    engine.fail_next("start", EngineError("no such device"))
    with pytest.raises(LaunchError):
        launching.launch(engine, planned())

    assert Decision() == reconciled(engine)


def test_places_that_come_back_are_removed_until_the_task_has_to_end() -> None:
    """A trigger may make a place for each that is removed; that does not hold up a killed task."""
    engine, asked = FakeEngine(images=["busybox"]), iter([False, False, True])
    own = {**FIRST.labels, labels.GPU_APP: "app"}
    ticket = GpuDemand(key="k", count=1, listed=("GPU-0",), image="busybox", labels=own)
    engine.create(ticket.spec("ticket"))

    def exchange(verb: Verb, _: str) -> None:
        if verb == "discard":
            engine.before = None
            engine.discard(engine.rows({})[0].id)
            engine.create(ticket.spec("ticket"))
            engine.before = exchange

    engine.before = exchange
    markers = reattach.found(engine, FIRST)[1]

    with pytest.raises(StopRequested):
        task_places.discard_markers(
            engine, FIRST, markers, may_wait=False, should_stop=lambda: next(asked)
        )

    assert [] == list(asked)


def restartable(program: Program) -> FakeEngine:
    """Return an engine with an app that may be restarted twice, launched by the first attempt."""
    engine = FakeEngine(images=["busybox"], programs=program)
    launch = LaunchContext(
        app_id=FIRST.app_id,
        handle="h",
        launch_id="launch-1",
        environ={},
        labels={**FIRST.labels, labels.CONFIG_HASH: HASH},
    )
    launching.launch(engine, plan(app(2, max_retries=2), Opts(), launch))
    return engine


def test_a_retry_reattaches_to_an_app_that_will_be_restarted() -> None:
    """An app whose worker was killed between two rounds has not failed."""
    engine = restartable(BROKEN)

    assert reconciled(engine).reattach is not None


def test_a_retry_reattaches_to_an_app_whose_round_is_not_complete() -> None:
    """The worker was killed while it created the containers of the next round."""
    engine = restartable(BROKEN)
    engine.fail_next("clone", KeyboardInterrupt(), on="trainer/1")
    with pytest.raises(KeyboardInterrupt):
        waiting.poll_once(engine, FIRST.app_id)

    assert 3 == len(engine.rows({}))
    decision = reconciled(engine)
    assert decision.reattach is not None
    assert () == decision.clean_up


def test_a_retry_does_not_reattach_to_an_app_that_will_not_be_restarted() -> None:
    """It asks the daemon why a replica failed: one without memory is not restarted."""
    engine = restartable(Program(exit_code=137, oom_killed=True))

    assert SUPERSEDED in reconciled(engine).clean_up
