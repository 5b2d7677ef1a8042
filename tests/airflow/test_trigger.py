"""The trigger and the real daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from airflow.sdk import Asset, AssetWatcher
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.triggers.base import BaseEventTrigger

from airflow_torchx.core.engine import labels
from airflow_torchx.runtime.watch import Watches, app_wait
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.sensors import TorchXDockerSensor
from airflow_torchx.task.poke import AppStateUnknownError, StateUnreachableError
from airflow_torchx.triggers import TorchXDockerTrigger
from tests.airflow.apps import FOREVER, shell
from tests.airflow.deferring import Waits
from tests.airflow.processes import until
from tests.airflow.supervisor import DELETED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow.models.taskinstance import TaskInstance

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.one_task import Ended, OneTask

pytestmark = pytest.mark.docker

ONE_FAILS = f'[ "${{replica_id}}" = 1 ] && exit 3; {FOREVER}'


@pytest.fixture
def scheduler(docker_engine: DockerEngine) -> DockerScheduler:
    """Return a scheduler on the real daemon."""
    return DockerScheduler("torchx", docker_engine)


@pytest.fixture
def launch(scheduler: DockerScheduler, app_id: str) -> Callable[..., str]:
    """Return what launches an app, and returns its id."""

    def launch(script: str, *, suffix: str = "", replicas: int = 2) -> str:
        app = replace(shell(script, replicas=replicas), name=app_id)
        info = scheduler.submit_dryrun(
            app, {"stop_grace_s": 2}, context=scheduler.new_context(app_id + suffix)
        )
        scheduler.schedule(info)
        return app_id + suffix

    return launch


@pytest.fixture
def states(scheduler: DockerScheduler) -> Callable[[str], list[str]]:
    """Return what tells the states of an app's replicas."""

    def states(app_id: str) -> list[str]:
        app = scheduler.describe(app_id)
        assert app is not None
        return [replica.state.name for role in app.roles_statuses for replica in role.replicas]

    return states


def trigger(**arguments: Any) -> TorchXDockerTrigger:  # noqa: ANN401 - the trigger's arguments
    """Return a trigger as the triggerer makes it, with watches that end with it."""
    classpath, kwargs = TorchXDockerTrigger(**arguments).serialize()
    assert "airflow_torchx.triggers.TorchXDockerTrigger" == classpath
    made = TorchXDockerTrigger(**json.loads(json.dumps(kwargs)))
    made.watches = Watches(linger_s=0)
    return made


def fired(waiting: TorchXDockerTrigger) -> tuple[str, str | None]:
    """Run a trigger to its end; return reason and state of its only event."""

    async def events() -> list[dict[str, Any]]:
        found = [event.payload async for event in waiting.run()]
        await waiting.cleanup()
        return found

    (event,) = asyncio.run(asyncio.wait_for(events(), 60))
    # A trigger that has sampled its app hands on what it has read, too.
    assert {"app_id", "reason", "state", "message"} == event.keys() - {"usage", "snapshot"}
    return event["reason"], event["state"]


def test_end(launch: Callable[..., str]) -> None:
    """The task's own app has ended when all its replicas have."""
    app_id = launch('[ "${replica_id}" = 1 ] && sleep 1; true')

    assert ("reached", "SUCCEEDED") == fired(trigger(app_id=app_id, owned=True))


def test_fail_fast(launch: Callable[..., str], states: Callable[[str], list[str]]) -> None:
    """A lost replica ends its peers, if the app is the task's own."""
    app_id = launch(ONE_FAILS)

    observed = trigger(app_id=app_id, target_states=["SUCCEEDED"], failed_states=["FAILED"])
    assert ("failed", "FAILED") == fired(observed)
    assert ["RUNNING", "FAILED"] == states(app_id)
    assert ("reached", "FAILED") == fired(trigger(app_id=app_id, owned=True))
    assert ["CANCELLED", "FAILED"] == states(app_id)


@pytest.mark.parametrize(("field", "reason"), [("deadline", "timeout"), ("flush_at", "flush")])
def test_a_time_that_comes(
    launch: Callable[..., str],
    states: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    field: str,
    reason: str,
) -> None:
    """A deadline or a flush fires an event, and the app goes on."""
    # Else the event of a slow daemon has no state.
    monkeypatch.setattr(app_wait, "_FIRST_LOOK_S", 50.0)
    app_id = launch(FOREVER)

    waiting = trigger(app_id=app_id, owned=True, **{field: time.time() + 0.5})

    assert (reason, "RUNNING") == fired(waiting)
    assert ["RUNNING", "RUNNING"] == states(app_id)


def test_an_event_that_is_held_back(launch: Callable[..., str], scheduler: DockerScheduler) -> None:
    """The event of an app that has ended does not come before its time."""
    app_id = launch("true")
    scheduler.wait(app_id, 60)
    not_before = time.time() + 0.5

    assert ("reached", "SUCCEEDED") == fired(
        trigger(app_id=app_id, owned=True, not_before=not_before)
    )
    assert time.time() >= not_before


def test_a_time_that_is_not_a_number(launch: Callable[..., str]) -> None:
    """An event whose earliest time is NaN fires at once."""
    app_id = launch("true")

    assert ("reached", "SUCCEEDED") == fired(
        trigger(app_id=app_id, owned=True, not_before=float("nan"))
    )


class Holding(TorchXDockerTrigger):
    """Tells when it begins to keep its event back."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401 - the trigger's arguments
        super().__init__(**arguments)
        self.holds = asyncio.Event()

    async def _hold(self) -> None:
        self.holds.set()
        await super()._hold()


def test_a_kill_while_the_event_is_held_back(
    launch: Callable[..., str], scheduler: DockerScheduler
) -> None:
    """The app is removed, and the trigger never fires."""
    app_id = launch("true")
    waiting = Holding(
        app_id=app_id, owned=True, delete_on_finish=True, not_before=time.time() + 1000
    )
    waiting.watches = Watches(linger_s=0)
    waiting.evidence = lambda: ("failed", app_id)

    async def scenario() -> None:
        async with asyncio.timeout(60):
            running = asyncio.ensure_future(anext(waiting.run()))
            await waiting.holds.wait()
            await waiting.on_kill()
            assert not running.done()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            await waiting.cleanup()

    asyncio.run(scenario())

    assert not scheduler.exists(app_id)


def test_an_app_that_is_not_there(app_id: str, docker_engine: DockerEngine) -> None:
    """A missing app is gone, unless the trigger waits for its launch."""
    assert docker_engine
    assert ("gone", None) == fired(trigger(app_id=app_id, owned=True))
    assert ("gone", None) == fired(trigger(app_id=app_id))
    later = trigger(app_id=app_id, wait_for_launch=True, deadline=time.time() + 0.5)
    assert ("timeout", None) == fired(later)


def connection(monkeypatch: pytest.MonkeyPatch, host: str, **extra: object) -> str:
    """Return the id of a connection to a daemon at this address."""
    value = {"conn_type": "torchx_docker", "host": host, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_TRIGGER_DAEMON", json.dumps(value))
    return "trigger_daemon"


def test_no_daemon(app_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger fires when the outage of the daemon has lasted too long."""
    waiting = trigger(app_id=app_id, torchx_conn_id=connection(monkeypatch, "unix:///nonexistent"))
    waiting.outage_s = 0.2

    assert ("unreachable", None) == fired(waiting)


def test_a_daemon_that_does_not_answer(
    app_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A daemon that does not answer delays neither the event loop nor the deadline."""

    async def scenario() -> str:
        with socket.socket(socket.AF_UNIX) as mute:
            mute.bind(str(tmp_path / "sock"))
            mute.listen(10)
            # A loop or a deadline that waits for the request waits longer than this test.
            async with asyncio.timeout(30):
                event = await anext(waiting.run())
        # The socket is closed, so the request ends.
        await waiting.cleanup()
        return str(event.payload["reason"])

    conn_id = connection(monkeypatch, f"unix://{tmp_path}/sock", request_timeout_s=60)
    waiting = trigger(app_id=app_id, torchx_conn_id=conn_id, deadline=time.time() + 1)

    assert "timeout" == asyncio.run(scenario())


async def eventually(happened: Callable[[], object]) -> None:
    """Wait until something has happened."""
    while True:
        if happened():
            return
        await asyncio.sleep(0.05)


def test_cleanup(launch: Callable[..., str]) -> None:
    """A trigger that is cancelled gives its share in the watch back: the threads end."""
    app_id = launch(FOREVER)
    waiting = trigger(app_id=app_id, owned=True)

    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if "watch" in thread.name]

    async def scenario() -> None:
        running = asyncio.ensure_future(anext(waiting.run()))
        await eventually(threads)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await waiting.cleanup()

    asyncio.run(scenario())

    until(lambda: not threads(), "the end of the threads")


def test_under_dag_test(
    one_task: OneTask, launch: Callable[..., str], docker_engine: DockerEngine
) -> None:
    """A deferred task gets the event; its connection comes from the database."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    conn_id = f"conn_{launch('sleep 1')}"
    app_id = conn_id.removeprefix("conn_")
    url = docker_engine.info().url
    with create_session() as session:
        session.add(Connection(conn_id=conn_id, conn_type="torchx_docker", host=url))

    ended = one_task.run(
        Waits, trigger={"app_id": app_id, "torchx_conn_id": conn_id, "owned": True}
    )

    assert "success" == ended.state
    assert (app_id, "reached") == (ended.xcom()["app_id"], ended.xcom()["reason"])


@pytest.fixture
def killed(one_task: OneTask) -> Callable[..., None]:
    """Return what takes a trigger away as Airflow does when a task instance was acted upon."""

    def killed(waiting: TorchXDockerTrigger, state: str | None, names: str | None) -> None:
        ti = task_instance(one_task.run(Waits, names=names), state)
        waiting.task_instance = ti
        with airflow_answers(ti):
            asyncio.run(waiting.on_kill())

    return killed


def task_instance(ended: Ended, state: str | None) -> TaskInstance:
    """Return the only task instance of a run, put into a state."""
    from airflow.utils.session import create_session

    ti = ended.ti
    with create_session() as session:
        ti.state = None if state == DELETED else state
        merged = session.merge(ti)
        if state == DELETED:
            session.delete(merged)
    return ti


@contextlib.contextmanager
def airflow_answers(ti: TaskInstance) -> Iterator[None]:
    """Let Airflow's look-ups find the real database, as in a triggerer."""
    import psutil  # type: ignore[import-untyped]
    import structlog
    from airflow.sdk.execution_time.supervisor import (
        InProcessSupervisorComms,
        InProcessTestSupervisor,
        set_supervisor_comms,
    )

    # As dag.test() makes it.
    supervisor = InProcessTestSupervisor(
        id=ti.id,
        pid=os.getpid(),
        process=psutil.Process(),
        process_log=structlog.get_logger("task"),
        client=InProcessTestSupervisor._api_client(),  # type: ignore[no-untyped-call]  # noqa: SLF001
    )
    supervisor.comms = InProcessSupervisorComms(supervisor=supervisor)
    with set_supervisor_comms(supervisor.comms):
        yield


REFUSED = AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR))
RUNS, STOPPED = ["RUNNING", "RUNNING"], ["CANCELLED", "CANCELLED"]


@pytest.mark.parametrize(
    ("state", "names", "left"),
    [
        ("failed", "mine", STOPPED),
        ("success", "mine", STOPPED),
        (None, "mine", STOPPED),
        (DELETED, "mine", STOPPED),
        ("deferred", "mine", RUNS),
        ("running", "mine", RUNS),
        ("deferred", None, RUNS),
        ("deferred", "another", STOPPED),
    ],
)
def test_on_kill(
    launch: Callable[..., str],
    killed: Callable[..., None],
    states: Callable[[str], list[str]],
    state: str | None,
    names: str | None,
    left: list[str],
) -> None:
    """A cancelled trigger stops its app only if no process will resume the task."""
    app_id = launch(FOREVER)

    killed(trigger(app_id=app_id, owned=True), state, app_id if names == "mine" else names)

    assert left == states(app_id)


def test_on_kill_removes(
    launch: Callable[..., str], killed: Callable[..., None], docker_engine: DockerEngine
) -> None:
    """The trigger removes the containers of a task that a user has marked."""
    app_id = launch(FOREVER)

    killed(trigger(app_id=app_id, owned=True, delete_on_finish=True), "success", app_id)

    assert () == docker_engine.rows({labels.APP_ID: app_id})


def test_on_kill_goes_on_when_airflow_gives_it_up(
    launch: Callable[..., str], states: Callable[[str], list[str]]
) -> None:
    """The look-up may take longer than Airflow waits, and the app is stopped all the same."""
    app_id = launch(FOREVER)
    waiting = trigger(app_id=app_id, owned=True)
    answer = threading.Event()

    def slowly() -> tuple[str | None, str | None]:
        answer.wait(30)
        return "failed", app_id

    async def give_up() -> None:
        waiting.evidence = slowly
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting.on_kill(), 0.1)
        await waiting.cleanup()
        answer.set()
        await asyncio.to_thread(until, lambda: states(app_id) == STOPPED, "the app is stopped")

    asyncio.run(give_up())


def test_on_kill_of_an_observer(
    launch: Callable[..., str],
    killed: Callable[..., None],
    states: Callable[[str], list[str]],
) -> None:
    """The cancelled trigger of an observer stops nothing."""
    app_id = launch(FOREVER)

    killed(trigger(app_id=app_id), "failed", app_id)

    assert RUNS == states(app_id)


def test_on_kill_without_an_answer(
    launch: Callable[..., str], states: Callable[[str], list[str]]
) -> None:
    """When Airflow does not tell the state of the task, the app is left alone."""
    app_id = launch(FOREVER)
    waiting = trigger(app_id=app_id, owned=True)

    def fail() -> tuple[str | None, str | None]:
        raise ConnectionError

    waiting.evidence = fail
    with pytest.raises(ConnectionError):
        asyncio.run(waiting.on_kill())

    assert RUNS == states(app_id)


@pytest.mark.parametrize("daemon", [True, False], ids=["daemon", "airflow"])
def test_on_kill_through_an_outage(
    launch: Callable[..., str],
    docker_engine: DockerEngine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    daemon: bool,
) -> None:
    """A cancelled trigger repeats its requests until Airflow and the daemon have answered."""
    app_id = launch(FOREVER)
    host = f"unix://{tmp_path}/sock"
    waiting = trigger(
        app_id=app_id,
        owned=True,
        delete_on_finish=True,
        torchx_conn_id=connection(monkeypatch, host) if daemon else None,
    )
    waiting.first_look_s = 0.01
    refused = iter([] if daemon else [REFUSED])

    def look() -> tuple[str | None, str | None]:
        for error in refused:
            raise error
        return "failed", app_id

    async def scenario() -> None:
        waiting.evidence = look
        killing = asyncio.ensure_future(waiting.on_kill())
        if daemon:
            # The trigger looks for the daemon before it is there.
            await eventually(lambda: [one for one in threading.enumerate() if "watch" in one.name])
            (tmp_path / "sock").symlink_to(docker_engine.info().url.removeprefix("unix://"))
        await killing
        await waiting.cleanup()

    asyncio.run(scenario())

    assert () == docker_engine.rows({labels.APP_ID: app_id})


def test_on_kill_after_the_event(
    launch: Callable[..., str], states: Callable[[str], list[str]]
) -> None:
    """The task goes on with the event; the app is its own again."""
    app_id = launch(FOREVER)
    waiting = trigger(app_id=app_id, owned=True, flush_at=1.0)
    waiting.evidence = lambda: ("failed", app_id)

    assert "flush" == fired(waiting)[0]
    asyncio.run(waiting.on_kill())

    assert RUNS == states(app_id)


@pytest.mark.parametrize(
    ("script", "answers", "left"),
    [
        ("true", ["deferred", REFUSED, "scheduled", "queued", "failed"], 0),
        ("true", ["scheduled", "running"], 2),
        (FOREVER, [None], 0),
    ],
    ids=["marked", "resumed", "cleared-after-a-flush"],
)
def test_a_task_that_is_ended_before_it_resumes(
    launch: Callable[..., str],
    docker_engine: DockerEngine,
    script: str,
    answers: list[str | Exception | None],
    left: int,
) -> None:
    """After its event, a trigger removes the app of a task that a user ends in the queue."""
    app_id = launch(script)
    flush_at = 1.0 if script == FOREVER else None
    waiting = trigger(app_id=app_id, owned=True, delete_on_finish=True, flush_at=flush_at)
    waiting.first_look_s = 0.01
    looks = iter(answers)

    def look() -> tuple[str | None, str | None]:
        answer = next(looks)
        if isinstance(answer, Exception):
            raise answer
        return answer, app_id

    async def fire() -> None:
        waiting.evidence, waiting.latest = look, lambda: None
        async for _ in waiting.run():
            pass
        await waiting.cleanup()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        # What was cancelled ends as such; another error fails.
        ended = await asyncio.gather(*others, return_exceptions=True)
        assert not [one for one in ended if isinstance(one, Exception)]

    asyncio.run(fire())

    assert [] == list(looks)
    assert left == len(docker_engine.rows({labels.APP_ID: app_id}))


def test_on_kill_of_an_app_that_is_gone(app_id: str, killed: Callable[..., None]) -> None:
    """A cancelled trigger whose app is gone does nothing."""
    killed(trigger(app_id=app_id, owned=True), "failed", app_id)


class Store:
    """Remembers what Airflow keeps in the database for the watcher of an asset."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    async def aget(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - any JSON
        """Return what was kept."""
        return self.kept.get(key, default)

    async def aset(self, key: str, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Keep it."""
        self.kept[key] = value


def test_watcher_of_an_asset(
    launch: Callable[..., str], scheduler: DockerScheduler, app_id: str
) -> None:
    """A watcher fires once for each app of the name that ends, and a restart repeats none."""
    store = Store()

    async def scenario(*launches: str, count: int) -> list[tuple[str, str]]:
        waiting = trigger(app_name=app_id)
        waiting.asset_state_store = store  # type: ignore[assignment]
        found: list[dict[str, Any]] = []
        came = asyncio.Event()

        async def listen() -> None:
            async for event in waiting.run():
                found.append(event.payload)
                if len(found) == count:
                    came.set()

        listening = asyncio.create_task(listen())
        # What has ended before the first look is not told.
        await eventually(lambda: store.kept)
        for suffix in launches:
            await asyncio.to_thread(launch, "sleep 1", suffix=suffix, replicas=1)
        await came.wait()
        assert not listening.done()
        listening.cancel()
        await asyncio.wait([listening])
        await waiting.cleanup()
        return sorted((event["app_id"], event["state"]) for event in found)

    scheduler.wait(launch("true", suffix="-old", replicas=1))
    expected = [(f"{app_id}-a", "SUCCEEDED"), (f"{app_id}-b", "SUCCEEDED")]
    assert expected == asyncio.run(scenario("-a", "-b", count=2))
    launch("true", suffix="-c", replicas=1)
    assert [(f"{app_id}-c", "SUCCEEDED")] == asyncio.run(scenario(count=1))


def test_airflow_takes_it_for_an_asset() -> None:
    """Airflow accepts the trigger for an asset, and its hash depends on its arguments alone."""
    made = [TorchXDockerTrigger(app_name=name) for name in ("a", "a", "b")]
    watcher = AssetWatcher(name="apps", trigger=made[0])
    asset = Asset("model", watchers=[watcher])

    assert [watcher] == asset.watchers
    one, same, other = (BaseEventTrigger.hash(*each.serialize()) for each in made)
    assert one == same != other
    assert made[0].supports_triggerer_queue


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "exactly one of app_id and app_name"),
        ({"app_id": "a", "app_name": "a"}, "exactly one of app_id and app_name"),
        ({"app_id": "a", "targets": []}, "no argument targets"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], error: str) -> None:
    """Wrong arguments raise a TypeError, the only error that a triggerer survives."""
    with pytest.raises(TypeError, match=error):
        TorchXDockerTrigger(**arguments)


def test_stored_arguments_of_another_release_are_read() -> None:
    """Unknown arguments are ignored with a warning, and missing ones have their default."""
    _, kwargs = TorchXDockerTrigger(app_id="a", owned=True).serialize()
    with structlog.testing.capture_logs() as lines:
        newer = TorchXDockerTrigger(**kwargs | {"format_version": 2, "region": "eu"})
    older = TorchXDockerTrigger(app_id="a", owned=True, format_version=1)

    assert kwargs == newer.serialize()[1] == older.serialize()[1]
    assert "region" in str(lines)


def test_the_sensor_ignores_what_another_release_stored() -> None:
    """A deferred sensor ends by its event, whatever else was stored."""
    sensor = TorchXDockerSensor(task_id="wait", app_id="a")
    event = {"reason": "failed", "message": "no", "region": "eu"}

    with pytest.raises(StateUnreachableError, match="no"):
        sensor.execute_complete({}, event, region="eu")
    with pytest.raises(AppStateUnknownError):
        sensor.execute_complete({}, {"reason": "moved"})
