"""Tests of the removal of what has no owner, on the fake engine."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.cli.prune import run as run_command
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerSpec
from airflow_torchx.core.plan.identity import TaskAttempt, first_name
from airflow_torchx.core.task.prune import GONE, Found, Policy, TaskKey
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.prune import Pruner
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role, VolumeMount
from airflow_torchx.testing import FakeEngine, ManualClock, Program

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.runtime.prune import Survey

DAY_S: Final = 24 * 3600.0


class Daemon:
    """A daemon in memory, an Airflow that knows states, and apps of its tasks."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.engine = FakeEngine(
            images=["busybox"],
            programs=Program(runs_for_s=60.0, files={"/data": b"x" * 1_000}),
            clock=self.clock,
            sleep=self.clock.sleep,
        )
        self.scheduler = DockerScheduler("test", self.engine)
        self.states: dict[str, str | None] = {}
        self.asked: list[int] = []
        self.ends: dict[str, datetime] = {}
        self.asked_ends: list[TaskKey] = []

    def ask(self, tasks: Collection[TaskKey]) -> dict[TaskKey, str | None]:
        """Answer as Airflow does."""
        self.asked.append(len(tasks))
        return {task: self.states.get(task.run_id, GONE) for task in tasks}

    def launch(
        self,
        run_id: str | None,
        state: str | None = None,
        on_finish: str = "delete",
        image: str = "busybox",
    ) -> str:
        """Launch an app of two replicas, in a task if it has a run; return its id."""
        app_id, own = f"app{len(self.engine.rows({}))}-x", {}
        if run_id is not None:
            self.states[run_id] = state
            attempt = TaskAttempt(
                dag_id="d", run_id=run_id, task_id="t", map_index=-1, max_tries=0, try_number=1
            )
            app_id, own = attempt.app_id, {**attempt.labels, labels.ON_FINISH: on_finish}
        context = self.scheduler.new_context(app_id, labels=own)
        app = AppDef("app", [Role("r", image, entrypoint="run", num_replicas=2)])
        self.scheduler.launch(self.scheduler.prepare(app, context=context))
        return app_id

    def pruner(self, **policy: Any) -> Pruner:  # noqa: ANN401 - any field
        """Return what prunes this daemon, with Airflow."""
        return Pruner(self.engine, self.ask, Policy(**policy), run_end=self.run_end)

    def run_end(self, task: TaskKey) -> datetime | None:
        """Answer as Airflow does."""
        self.asked_ends.append(task)
        return self.ends.get(task.run_id)

    @property
    def now(self) -> datetime:
        """The time at the daemon."""
        now = self.engine.info().system_time
        assert now is not None
        return now

    @property
    def apps(self) -> set[str]:
        """The ids of all apps."""
        return {row.labels[labels.APP_ID] for row in self.engine.rows({labels.APP_ID: None})}


def container(name: str, own: dict[str, str]) -> ContainerSpec:
    """Return a container that is not a replica, with labels of its own."""
    return ContainerSpec(
        role="",
        replica=0,
        name=name,
        image="busybox",
        entrypoint="run",
        args=(),
        env={},
        labels=own,
        network="none",
    )


@pytest.fixture
def daemon() -> Daemon:
    """Return a daemon without containers."""
    return Daemon()


def test_apps_with_and_without_an_owner(daemon: Daemon) -> None:
    """Apps whose task is over are removed; all others stay as they are."""
    over = {daemon.launch("over", "success"), daemon.launch("failed", "failed")}
    owned = {
        daemon.launch("runs", "running"),
        daemon.launch("deferred", "deferred"),
        daemon.launch("retried", "up_for_retry"),
        daemon.launch("cleared", None),
        daemon.launch("detached", "success", on_finish="detached"),
        daemon.launch("kept", "success", on_finish="keep"),
        daemon.launch("of another Airflow", GONE),
        daemon.launch(None),
    }
    before = {row.id: row.state for row in daemon.engine.rows({})}

    survey = daemon.pruner().survey()
    assert before == {row.id: row.state for row in daemon.engine.rows({})}
    pruned = daemon.pruner().remove(survey.found)

    assert over == {one.name for one in survey.found} == {one.name for one in pruned.done}
    assert owned == daemon.apps
    assert before.items() >= {row.id: row.state for row in daemon.engine.rows({})}.items()
    assert len(owned) == sum(survey.left.values())


def test_airflow_is_asked_in_bulk(daemon: Daemon) -> None:
    """Airflow gets one question for all apps, and one for each batch right before the removal."""
    for number in range(20):
        daemon.launch(f"run{number}", "success")

    survey = daemon.pruner().survey()
    daemon.pruner().remove(survey.found)

    assert [20, 16, 4] == daemon.asked
    assert set() == daemon.apps


@pytest.mark.parametrize("change", ["cleared", "restarted", "deleted"])
def test_an_app_that_has_got_an_owner_since(daemon: Daemon, change: str) -> None:
    """An app whose task was cleared, or that another client removed, is not touched."""
    app_id = daemon.launch("run", "success")
    survey = daemon.pruner().survey()
    if change == "deleted":
        lifecycle.delete(daemon.engine, app_id)
    else:
        daemon.states["run"] = None if change == "cleared" else "running"

    pruned = daemon.pruner().remove(survey.found)

    assert [] == [*pruned.done, *pruned.failed]
    assert [app_id] == [one.name for one in pruned.spared]
    assert (set() if change == "deleted" else {app_id}) == daemon.apps


def test_another_launch_of_the_same_app_id(daemon: Daemon) -> None:
    """Only the launch that was found is removed."""
    app_id = daemon.launch("run", "success")
    survey = daemon.pruner().survey()
    lifecycle.delete(daemon.engine, app_id)
    daemon.launch("run", "success")

    pruned = daemon.pruner().remove(survey.found)

    assert [] == pruned.done
    assert {app_id} == daemon.apps


def test_two_launches_of_one_app_id(daemon: Daemon) -> None:
    """A launch whose task runs is left alone beside a cancelled one with its app id."""
    app_id = daemon.launch("run", "success")
    lifecycle.cancel(daemon.engine, app_id)
    for row in daemon.engine.rows({labels.APP_ID: app_id}):
        own = {**row.labels, labels.LAUNCH_ID: "other", labels.RUN_ID: "runs"}
        live = ContainerSpec(
            role="r",
            replica=int(row.labels[labels.REPLICA_ID]),
            name=first_name(row.name),
            image="busybox",
            entrypoint="run",
            args=(),
            env={},
            labels=own,
            network="torchx",
        )
        daemon.engine.start(daemon.engine.create(live))
    daemon.states["runs"] = "running"

    pruned = daemon.pruner().remove(daemon.pruner().survey().found)

    assert [app_id] == [one.name for one in pruned.done]
    left = daemon.engine.rows({})
    assert ["running", "running"] == [row.state for row in left]
    assert {"other"} == {row.labels[labels.LAUNCH_ID] for row in left}


def test_keep_failed(daemon: Daemon) -> None:
    """A running app of `keep_failed` is stopped, and its containers stay until they are old."""
    app_id = daemon.launch("run", "failed", on_finish="keep_failed")

    pruned = daemon.pruner().remove(daemon.pruner().survey().found)

    assert ["stop"] == [one.action for one in pruned.done]
    assert {"exited"} == {row.state for row in daemon.engine.rows({labels.APP_ID: app_id})}
    assert () == daemon.pruner().survey().found
    daemon.clock.advance(DAY_S + 1)
    assert [app_id] == [one.name for one in daemon.pruner().survey().found]


def test_the_age_of_an_app_counts_from_its_end(daemon: Daemon) -> None:
    """An app outside Airflow that ran for days is kept for a day after its end."""
    app_id = daemon.launch(None)
    daemon.clock.advance(60)
    pruner = Pruner(daemon.engine, policy=Policy(older_than_s=100.0))

    daemon.clock.advance(90)
    assert () == pruner.survey().found
    daemon.clock.advance(20)
    assert [app_id] == [one.name for one in pruner.survey().found]


def test_a_launch_that_broke_off(daemon: Daemon) -> None:
    """The containers of a launch that never started are removed after a minute."""
    app_id = daemon.launch(None)
    one, two = daemon.engine.rows({labels.APP_ID: app_id})
    lifecycle.delete(daemon.engine, app_id)
    for row in (one, two):
        daemon.engine.create(
            ContainerSpec(
                role="r",
                replica=int(row.labels[labels.REPLICA_ID]),
                name=row.name,
                image="busybox",
                entrypoint="run",
                args=(),
                env={},
                labels=row.labels,
                network="torchx",
            )
        )
    pruner = Pruner(daemon.engine)

    assert () == pruner.survey().found
    daemon.clock.advance(61)
    pruner.remove(pruner.survey().found)
    assert set() == daemon.apps


def test_containers_of_others(daemon: Daemon) -> None:
    """Containers of other programs and TorchX's own apps are never touched."""
    for name, own in (("db", {}), ("tx-r-0", {labels.APP_ID: "tx", labels.ROLE_NAME: "r"})):
        spec = container(name, own)
        daemon.engine.start(daemon.engine.create(spec))
    daemon.clock.advance(1000 * DAY_S)

    assert () == daemon.pruner(gone=True, older_than_s=0.0).survey().found


def committed(daemon: Daemon) -> ContainerRow:
    """Commit ``committed:1`` from a container of an app, which is deleted; return that."""
    app_id = daemon.launch("run", "failed")
    row = daemon.engine.rows({labels.APP_ID: app_id})[0]
    images = daemon.engine.images
    prepared = images.prepare("busybox", "prepared", row.labels)
    images.commit(prepared, "committed:1", "/")
    daemon.engine.remove(prepared)
    lifecycle.delete(daemon.engine, app_id)
    return row


@pytest.mark.parametrize("is_named_like_it", [False, True])
def test_a_container_of_an_image_that_was_committed_from_an_app(
    daemon: Daemon, *, is_named_like_it: bool
) -> None:
    """A container that a user runs from such an image has all labels of the app, and stays."""
    source = committed(daemon)
    name = source.name if is_named_like_it else "of-a-user"
    of_user = replace(container(name, dict(source.labels)), image="committed:1")
    daemon.engine.start(daemon.engine.create(of_user))

    assert () == daemon.pruner().survey().found


def test_an_app_of_an_image_that_was_committed_from_another_one(daemon: Daemon) -> None:
    """It is removed like any other app."""
    committed(daemon)
    app_id = daemon.launch("later", "failed", image="committed:1")

    found = daemon.pruner().survey().found

    assert [app_id] == [one.name for one in found]
    assert 1 == len(daemon.pruner().remove(found).done)


def test_markers_and_builds(daemon: Daemon) -> None:
    """An expired claim and what a build has left are removed."""
    for name, own in (
        ("airflow-torchx-gpu-claim-x", {labels.GPU_MARKER: "claim", labels.GPU_TIMEOUT: "10"}),
        ("torchx-build-x", {}),
    ):
        daemon.engine.create(container(name, own))
    daemon.clock.advance(2 * 3600)

    pruned = daemon.pruner().remove(daemon.pruner().survey().found)

    assert 2 == len(pruned.done)
    assert () == daemon.engine.rows({})


def test_a_place_of_a_task_that_runs_again(daemon: Daemon) -> None:
    """A ticket of a task that was cleared after the survey is spared."""
    attempt = TaskAttempt(
        dag_id="d", run_id="run", task_id="t", map_index=-1, max_tries=0, try_number=1
    )
    daemon.states["run"] = "failed"
    ticket = container(
        "airflow-torchx-gpu-ticket-x", {**attempt.labels, labels.GPU_MARKER: "ticket"}
    )
    daemon.engine.create(ticket)
    pruner = daemon.pruner()
    found = pruner.survey().found
    assert [ticket.name] == [one.name for one in found]
    daemon.states["run"] = None

    pruned = pruner.remove(found)

    assert [ticket.name] == [one.name for one in pruned.spared]
    assert [ticket.name] == list(daemon.engine.specs())


URL: Final = "s3://conn@bucket/models"


def checkpoint_volume(daemon: Daemon, run_id: str, state: str | None, **options: str) -> str:
    """Launch an app with checkpoints and delete it; return the volume that is left."""
    daemon.states[run_id] = state
    attempt = TaskAttempt(
        dag_id="d", run_id=run_id, task_id="t", map_index=-1, max_tries=0, try_number=1
    )
    before = {row.name for row in daemon.engine.unused_volumes({labels.CHECKPOINT: None})}
    context = daemon.scheduler.new_context(attempt.app_id, labels=attempt.labels, uploads=True)
    opts = daemon.scheduler.options({"checkpoint": URL, **options})
    app = AppDef("app", [Role("r", "busybox", entrypoint="run")])
    daemon.scheduler.launch(daemon.scheduler.prepare(app, opts, context=context))
    daemon.scheduler.delete(attempt.app_id)
    after = {row.name for row in daemon.engine.unused_volumes({labels.CHECKPOINT: None})}
    (name,) = after - before
    return name


def volumes(survey: Survey) -> list[str]:
    """Return the volumes that were found."""
    return [one.name for one in survey.found if one.kind == "volume"]


@pytest.mark.parametrize(
    "state",
    [
        "running",
        "deferred",
        "up_for_retry",
        "queued",
        "scheduled",
        "up_for_reschedule",
        "restarting",
        None,
    ],
)
def test_checkpoints_of_a_task_that_is_not_over(daemon: Daemon, state: str | None) -> None:
    """Between two tries no container mounts the volume, and it stays, however old it is."""
    checkpoint_volume(daemon, "run", state)
    daemon.clock.advance(100 * DAY_S)

    survey = daemon.pruner(checkpoints=True, gone=True).survey()

    assert [] == volumes(survey)
    assert [1] == list(survey.left_volumes.values())
    assert [] == daemon.asked_ends


def test_checkpoints_age_from_the_end_of_their_run(daemon: Daemon) -> None:
    """The volume of a run is removed a day after the run has ended, if that is asked for."""
    name = checkpoint_volume(daemon, "run", "failed")
    daemon.clock.advance(100 * DAY_S)
    survey = daemon.pruner(checkpoints=True).survey()
    assert ("1 volume: its DAG run has not ended",) == survey.left_texts
    daemon.ends["run"] = daemon.now

    daemon.clock.advance(DAY_S / 2)
    survey = daemon.pruner(checkpoints=True).survey()
    assert [] == volumes(survey)
    assert ("1 volume: it was used less than 1 d ago (--older-than)",) == survey.left_texts
    daemon.clock.advance(DAY_S)
    assert [] == volumes(daemon.pruner().survey())
    pruner = daemon.pruner(checkpoints=True)
    found = pruner.survey().found
    daemon.states["run"] = "up_for_retry"
    assert [name] == [one.name for one in pruner.remove(found).spared]
    daemon.states["run"] = "failed"

    assert [name] == [one.name for one in pruner.remove(found).done]
    assert () == daemon.engine.unused_volumes({labels.CHECKPOINT: None})


def test_checkpoints_that_other_runs_may_use(daemon: Daemon) -> None:
    """Volumes of `eager`, with a name, and of a deleted run are left, the last without `gone`."""
    checkpoint_volume(daemon, "one", "success", checkpoint_policy="eager")
    checkpoint_volume(daemon, "two", "success", checkpoint="models")
    deleted = checkpoint_volume(daemon, "three", GONE)
    daemon.ends = dict.fromkeys(("one", "two"), daemon.now)
    daemon.clock.advance(100 * DAY_S)

    survey = daemon.pruner(checkpoints=True).survey()

    assert [] == volumes(survey)
    assert (
        "2 volumes: other runs or tasks may use it",
        "1 volume: this Airflow does not have its run",
    ) == survey.left_texts
    assert [deleted] == volumes(daemon.pruner(checkpoints=True, gone=True).survey())


def test_checkpoints_without_airflow(daemon: Daemon) -> None:
    """Without Airflow, the use of each volume is unknown, and it is left."""
    checkpoint_volume(daemon, "run", "failed")
    daemon.clock.advance(100 * DAY_S)

    survey = Pruner(daemon.engine, policy=Policy(checkpoints=True)).survey()

    assert [] == volumes(survey)
    assert ("1 volume: the state of its task is unknown",) == survey.left_texts


def test_a_volume_that_a_container_mounts_since(daemon: Daemon) -> None:
    """A volume that got a container after the survey is spared."""
    name = checkpoint_volume(daemon, "run", "failed")
    daemon.ends["run"] = daemon.now
    daemon.clock.advance(2 * DAY_S)
    pruner = daemon.pruner(checkpoints=True)
    found = pruner.survey().found
    mount = VolumeMount(src=name, dst_path="/data")
    daemon.engine.create(replace(container("other", {}), mounts=(mount,)))

    assert [name] == [one.name for one in pruner.remove(found).spared]


def args(scheduler: str | None = None, /, **given: bool) -> Namespace:
    """Return parsed arguments of the command."""
    flags = dict.fromkeys(("dry_run", "json", "gone", "checkpoints"), False)
    return Namespace(conn=None, scheduler=scheduler, **flags | given)


def test_the_command(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints a table of what goes, and the counts; a dry run changes nothing."""
    app_id = daemon.launch("run", "failed")
    daemon.launch("other", "running")

    assert 0 == run_command(daemon.pruner(), args(dry_run=True))
    dry = capsys.readouterr()
    assert 2 == len(daemon.apps)
    assert 0 == run_command(daemon.pruner(), args())
    done = capsys.readouterr()

    row = f"app {app_id}  remove: it runs, and its task is over (failed)  0 s  2.0 kB  d run t"
    assert [row, row] == [one.out.splitlines()[1] for one in (dry, done)]
    assert "would remove 1 app (2.0 kB)\n" in dry.err
    assert "removed 1 app (2.0 kB)\nleft 1 app: its task is running\n" in done.err
    assert 1 == len(daemon.apps)


def test_the_command_without_airflow(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    """Without Airflow, apps of tasks are left, and the command says how to ask Airflow."""
    assert 0 == run_command(Pruner(daemon.engine), args())
    assert "asks Airflow" not in capsys.readouterr().err
    daemon.launch("run", "failed")

    assert 0 == run_command(Pruner(daemon.engine), args())

    printed = capsys.readouterr()
    assert "" == printed.out
    assert "removed nothing\nleft 1 app: the state of its task is unknown\n" in printed.err
    assert "\n`airflow torchx prune` asks Airflow for the states of tasks\n" in printed.err
    assert 0 == run_command(Pruner(daemon.engine), args("docker_swarm"))
    assert "`airflow torchx prune -s docker_swarm` asks" in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, None),
        ({"gone": True}, "--gone has"),
        ({"checkpoints": True}, "--checkpoints has"),
        ({"gone": True, "checkpoints": True}, "--gone and --checkpoints have"),
    ],
)
def test_options_that_need_airflow(
    daemon: Daemon,
    capsys: pytest.CaptureFixture[str],
    given: dict[str, bool],
    named: str | None,
    *,
    as_json: bool,
) -> None:
    """Options that have no effect without Airflow are warned of, with what gives access to it."""
    assert 0 == run_command(Pruner(daemon.engine), args(json=as_json, **given))
    warning = (
        f"warning: {named} no effect without Airflow: add --conn, or use `airflow torchx prune`"
    )
    printed = capsys.readouterr().err.splitlines()
    assert [warning] * (named is not None) == [line for line in printed if "no effect" in line]

    own = args(**given)
    own.conn = "gpu_host"
    assert 0 == run_command(Pruner(daemon.engine), own)
    assert "no effect" not in capsys.readouterr().err


def test_when_a_kept_app_goes(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says how long an app stays that has ended, and which option sets it."""
    daemon.launch(None)
    daemon.launch("run", "failed", on_finish="keep")
    daemon.clock.advance(120)

    for policy, kept in (({}, "1 d"), ({"older_than_s": 5400.0}, "1 h 30 min")):
        assert 0 == run_command(daemon.pruner(**policy), args(dry_run=True))
        rest = f"until {kept} after its end (--older-than)\n"
        printed = capsys.readouterr().err
        assert f"left 1 app: it has ended, outside Airflow, and stays {rest}" in printed
        assert f"left 1 app: its task keeps it {rest}" in printed


def test_the_json_of_the_command(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON has what was found, what was removed, and why apps were left."""
    app_id = daemon.launch("run", "failed")

    assert 0 == run_command(daemon.pruner(), args(json=True))

    printed = json.loads(capsys.readouterr().out)
    assert {"found", "removed", "failed", "spared", "left", "left_volumes"} == printed.keys()
    assert [app_id] == [one["name"] for one in printed["removed"]]
    assert {"kind", "name", "action", "why", "since", "task", "size_bytes"} == printed["found"][
        0
    ].keys()


def test_what_cannot_be_removed(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    """An app that cannot be removed is an error, and the others are removed."""
    app_id = daemon.launch("run", "failed")
    removed = daemon.launch("other", "failed")

    class Half(Pruner):
        def _remove_app(self, app: Found) -> bool:
            if app.name == app_id:
                raise EngineError("cannot remove it")
            return super()._remove_app(app)

    assert 1 == run_command(Half(daemon.engine, daemon.ask), args())

    assert {app_id} == daemon.apps
    assert removed not in daemon.apps
    assert "cannot remove" in capsys.readouterr().err
