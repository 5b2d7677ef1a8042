"""Launch an app on the fake engine: every container of it, or none."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine import labels
from airflow_torchx.errors import (
    AppCancelledError,
    AppExistsError,
    EngineConflictError,
    EngineError,
    EngineUnreachableError,
    ImagePullError,
    LaunchError,
    LaunchInterruptedError,
)
from airflow_torchx.runtime import folders, launching, lifecycle
from airflow_torchx.testing import FakeEngine, Program
from tests.contract.image_bench import tar
from tests.unit.apps import app, planned, states

if TYPE_CHECKING:
    from airflow_torchx.testing import Verb

FOREVER = Program(runs_for_s=None)


def test_all_replicas_run_after_a_launch() -> None:
    """A launch creates all containers before it starts any."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)

    launching.launch(engine, planned())

    assert ["RUNNING"] * 3 == states(engine)
    work = [verb for verb in engine.calls if verb in ("create", "start")]
    assert ["create"] * 3 + ["start"] * 3 == work


@pytest.mark.parametrize("verb", ["create", "start"])
@pytest.mark.parametrize("replica", [0, 1, 2])
def test_half_a_gang_is_never_left_running(verb: Verb, replica: int) -> None:
    """If the Engine refuses a replica, nothing is left and the error names the replica."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    engine.fail_next(verb, EngineError("no space left on device"), on=f"trainer/{replica}")

    with pytest.raises(LaunchError, match=rf"replica trainer/{replica} .*no space left") as caught:
        launching.launch(engine, planned())

    assert (f"trainer/{replica}", ()) == (caught.value.replica, caught.value.left)
    assert {} == engine.specs()


@pytest.mark.parametrize("verb", ["create", "start"])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_leaves_nothing(verb: Verb, interrupt: type[BaseException]) -> None:
    """An interrupt during a launch undoes it and is raised again."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    engine.fail_next(verb, interrupt(), on="trainer/1")

    with pytest.raises(interrupt):
        launching.launch(engine, planned())

    assert {} == engine.specs()


def test_ctrl_c_does_not_end_an_undo() -> None:
    """An interrupt during the undo of a failed launch is raised after nothing is left."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    engine.fail_next("start", EngineError("broken"), on="trainer/1")
    engine.fail_next("remove", KeyboardInterrupt(), times=4)

    with pytest.raises(KeyboardInterrupt):
        launching.launch(engine, planned())

    assert {} == engine.specs()


def test_an_undo_tries_every_container() -> None:
    """The error names only the container that could not be removed; its peers are removed."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    engine.fail_next("start", EngineError("broken"), on="trainer/1")
    engine.fail_next("remove", EngineError("busy"), on="trainer/0", times=99)

    with pytest.raises(LaunchError) as caught:
        launching.launch(engine, planned())

    assert ("app-1-trainer-0",) == caught.value.left
    assert ["app-1-trainer-0"] == [row.name for row in engine.rows({})]


def test_a_stopped_launch_says_what_is_left() -> None:
    """If a stopped launch cannot be undone, the error has the command for what is left."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    engine.fail_next("start", StopRequested())
    engine.fail_next("remove", EngineError("busy"), on="trainer/2", times=99)

    with pytest.raises(LaunchInterruptedError, match="`docker rm -f app-1-trainer-2`"):
        launching.launch(engine, planned())


def test_an_interrupted_launch_notes_what_is_left() -> None:
    """An interrupt whose undo fails has a note with the command for what is left."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    engine.fail_next("start", KeyboardInterrupt())
    engine.fail_next("rows", EngineUnreachableError("down"))
    engine.fail_next("remove", EngineError("busy"), on="trainer/2", times=99)

    with pytest.raises(KeyboardInterrupt) as caught:
        launching.launch(engine, planned())

    assert "`docker rm -f app-1-trainer-2`" in caught.value.__notes__[0]


@pytest.mark.parametrize("replicas", [1, 3])
def test_an_app_whose_first_container_is_gone_is_not_joined(replicas: int) -> None:
    """A launch that finds other containers of its app id undoes itself."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())
    (first,) = [row for row in engine.rows({}) if row.name == "app-1-trainer-0"]
    engine.remove(first.id)

    with pytest.raises(AppExistsError):
        launching.launch(engine, planned(app(replicas), launch_id="two"))

    assert {"one"} == {spec.labels[labels.LAUNCH_ID] for spec in engine.specs().values()}


def test_a_container_whose_creation_got_no_answer_is_removed() -> None:
    """A container whose creation got no answer is found by label and removed."""
    engine = FakeEngine(images=["busybox"])
    lost = EngineUnreachableError("timed out")
    engine.fail_next("create", lost, on="trainer/0", after=True)

    with pytest.raises(LaunchError):
        launching.launch(engine, planned())

    assert {} == engine.specs()


def test_an_undo_that_fails_says_what_is_left() -> None:
    """If the removal fails too, the error names the containers and the command."""
    engine = FakeEngine(images=["busybox"])
    engine.fail_next("start", EngineError("broken"), on="trainer/1")
    engine.fail_next("remove", EngineError("busy"), times=99)

    with pytest.raises(LaunchError, match="docker rm -f") as caught:
        launching.launch(engine, planned())

    assert "app-1-trainer-1" in caught.value.left


def test_a_second_launch_of_an_app_id_is_an_error_not_a_twin() -> None:
    """A second launch of an app id fails and leaves the first app untouched."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())

    with pytest.raises(AppExistsError, match="app-1"):
        launching.launch(engine, planned(launch_id="two"))

    assert ["RUNNING"] * 3 == states(engine)


@pytest.mark.parametrize("second", ["one", "two"])
def test_of_two_launches_at_once_one_wins_whole(second: str) -> None:
    """Of two concurrent launches one wins all names, and the loser removes nothing."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    gate = threading.Barrier(2)

    def meet(verb: Verb, name: str) -> None:
        if (verb, name) == ("create", "app-1-trainer-0"):
            gate.wait(60)

    engine.before = meet
    errors: list[BaseException] = []

    def run(launch_id: str) -> None:
        try:
            launching.launch(engine, planned(launch_id=launch_id))
        except AppExistsError as why:
            errors.append(why)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [AppExistsError] == [type(why) for why in errors]
    assert ["RUNNING"] * 3 == states(engine)


def test_a_name_taken_by_a_stranger_is_a_launch_error() -> None:
    """A name taken by a foreign container is a launch error, not an existing app."""
    engine = FakeEngine(images=["busybox"])
    engine.fail_next("create", EngineConflictError("name in use"), on="trainer/0")

    with pytest.raises(LaunchError, match="name in use"):
        launching.launch(engine, planned())


def test_a_stopped_launch_leaves_nothing() -> None:
    """A launch checks should_stop while the Engine is slow, and undoes itself."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    stopped = threading.Event()

    def be_slow(_: Verb, name: str) -> None:
        if name.endswith("-2"):
            stopped.wait(60)

    def stop() -> bool:
        if "create" in engine.calls:
            stopped.set()
        return stopped.is_set()

    engine.before = be_slow

    with pytest.raises(LaunchInterruptedError, match="Nothing was left"):
        launching.launch(engine, planned(), should_stop=stop)

    assert {} == engine.specs()


def test_cancelling_an_app_while_it_is_launched_ends_the_launch() -> None:
    """A launch that another client cancels is undone, and says who ended it."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    cancelled = threading.Event()

    def cancel(verb: Verb, _: str) -> None:
        if verb == "start" and not cancelled.is_set():
            cancelled.set()
            lifecycle.cancel(engine, "app-1")

    engine.before = cancel

    with pytest.raises(AppCancelledError, match="CANCELLED: another client stopped it"):
        launching.launch(engine, planned())

    assert {} == engine.specs()


def test_an_image_that_cannot_be_pulled_creates_nothing() -> None:
    """A failed pull ends the launch before a container is created."""
    engine = FakeEngine()

    with pytest.raises(ImagePullError, match="busybox"):
        launching.launch(engine, planned())

    assert "create" not in engine.calls


def test_the_error_of_a_launch_shows_no_secret() -> None:
    """A launch error redacts the values of private variables."""
    engine = FakeEngine(images=["busybox"])
    engine.fail_next("create", EngineError("bad env API_TOKEN=hunter22"), on="trainer/0")

    with pytest.raises(LaunchError) as caught:
        launching.launch(engine, planned(app(env={"API_TOKEN": "hunter22"})))

    assert "hunter22" not in str(caught.value)
    assert "hunter22" not in repr(caught.value)
    assert caught.value.__suppress_context__  # a traceback would tell what the Engine said
    assert caught.value.__cause__ is None


def test_the_error_of_a_launch_has_the_engine_s_as_its_cause() -> None:
    """A launch error keeps the Engine's error as its cause if that holds no secret."""
    engine = FakeEngine(images=["busybox"])
    why = EngineError("no space left")
    engine.fail_next("create", why, on="trainer/0")

    with pytest.raises(LaunchError) as caught:
        launching.launch(engine, planned(app(env={"API_TOKEN": "hunter22"})))

    assert why is caught.value.__cause__


def test_folders_for_checkpoints_exist_before_the_start() -> None:
    """The first container gets the folders before any container is started."""
    engine = FakeEngine(images=["busybox"])
    launching.launch(engine, planned(app(2), checkpoint="models"))

    assert 1 == engine.calls.count("put_files")
    assert engine.calls.index("put_files") < engine.calls.index("start")


@pytest.mark.parametrize(("leaf", "writes"), [(None, 0), (b"x", 1), ("link", 1)])
def test_a_folder_for_checkpoints_that_exists(leaf: bytes | str | None, writes: int) -> None:
    """Nothing is written if the folder exists; a file or a link in its stead is an error."""
    engine = FakeEngine(images=["busybox"])
    container_id = engine.create(planned(app(1)).containers[0])
    engine.images.put_files(container_id, [tar({"kept/a": leaf, "kept/other": b"y"})])
    engine.calls.clear()

    with nullcontext() if leaf is None else pytest.raises(EngineError, match="/kept/a"):
        folders.create(engine, container_id, ["/kept", "/kept/a"])

    assert writes == engine.calls.count("put_files")
    assert b"y" == engine.read_file(container_id, "/kept/other", 10)


def test_folders_that_cannot_be_created() -> None:
    """If the daemon refuses the folders, nothing is left, and the error says why."""
    engine = FakeEngine(images=["busybox"])
    engine.fail_next("put_files", EngineError("the volume is read-only"))

    with pytest.raises(LaunchError, match="the volume is read-only"):
        launching.launch(engine, planned(app(2), checkpoint="models"))

    assert () == engine.rows({})
