"""A sensor and the real daemon, waiting in the task and in the trigger."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from airflow.sdk.exceptions import AirflowSensorTimeout

from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.rounds import replica_key
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.sensors import TorchXDockerSensor
from airflow_torchx.specs import AppState
from airflow_torchx.task.poke import AppGoneError, AppStateUnknownError, StateUnreachableError
from tests.airflow.apps import FOREVER, OBEDIENT, shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.sdk import Context, PokeReturnValue

    from airflow_torchx.docker_engine import DockerEngine
    from airflow_torchx.specs import AppDef
    from tests.airflow.one_task import Ended, OneTask

pytestmark = pytest.mark.docker


class Watched(TorchXDockerSensor):
    """Tells when it has looked for the first time, and has to wait."""

    looked: ClassVar = threading.Event()

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        seen = super().poke(context)
        self.looked.set()
        return seen


class Hasty(Watched):
    """Sits out a shorter outage."""

    outage_s: ClassVar = 0.2


@pytest.fixture
def scheduler(docker_engine: DockerEngine) -> DockerScheduler:
    """Return a scheduler on the real daemon."""
    return DockerScheduler("torchx", docker_engine)


@pytest.fixture
def launch(scheduler: DockerScheduler, app_id: str) -> Callable[..., str]:
    """Return what launches an app without any Airflow, and returns its handle."""

    def launch(app: AppDef | str, *, suffix: str = "") -> str:
        app = shell(app) if isinstance(app, str) else app
        context = scheduler.new_context(app_id + suffix)
        scheduler.schedule(scheduler.prepare(app, context=context))
        return f"local_docker://torchx/{app_id}{suffix}"

    return launch


@pytest.fixture(params=["poke", "deferrable"])
def wait(request: pytest.FixtureRequest, one_task: OneTask) -> Callable[..., Ended]:
    """Return what runs a sensor, which waits in its task and then in the triggerer."""
    how = {"deferrable": True} if request.param == "deferrable" else {"poke_interval": 0.2}

    def wait(operator: type[Watched] = Watched, **arguments: Any) -> Ended:  # noqa: ANN401 - the sensor's arguments
        return one_task.run(operator, **{"timeout": 30, **how, **arguments})

    return wait


@pytest.fixture
def later() -> Iterator[Callable[..., None]]:
    """Return what calls something when the sensor has looked, so that it has to wait.

    Three seconds later, if it is to be ``patient``: a deferred sensor waits in the trigger then.
    """
    Watched.looked = threading.Event()
    called: list[threading.Thread] = []

    def later(call: Callable[..., object], *args: object, patient: bool = False) -> None:
        def run() -> None:
            if Watched.looked.wait(60):
                time.sleep(3 if patient else 0)
                call(*args)

        called.append(threading.Thread(target=run))
        called[-1].start()

    yield later

    Watched.looked.set()
    for thread in called:
        thread.join()


@pytest.fixture
def end(docker_engine: DockerEngine, app_id: str) -> Callable[..., None]:
    """Return what lets replicas of the app end, like ``worker/1``, in this order; or all."""

    def end(*names: str) -> None:
        rows: dict[str, list[str]] = {}
        for row in docker_engine.rows({labels.APP_ID: None}):
            if app_id in row.labels[labels.APP_ID]:
                role, index = replica_key(row)
                rows.setdefault(f"{role}/{index}", []).append(row.id)
        for name in names or rows:
            for container_id in rows[name]:
                docker_engine.stop(container_id, 5)

    return end


@pytest.fixture
def unstarted(scheduler: DockerScheduler, docker_engine: DockerEngine, app_id: str) -> str:
    """Return the container of an app that is not started: it goes without being seen to end."""
    context = scheduler.new_context(app_id)
    info = scheduler.prepare(shell(FOREVER, replicas=1), context=context)
    return docker_engine.create(info.request.containers[0])


@pytest.fixture
def states(scheduler: DockerScheduler, app_id: str) -> Callable[[], list[AppState]]:
    """Return what tells the states of the app's replicas."""

    def states() -> list[AppState]:
        app = scheduler.describe(app_id)
        assert app is not None
        return [replica.state for replica in replicas_of(app)]

    return states


def test_waits_for_the_end(
    launch: Callable[..., str],
    wait: Callable[..., Ended],
    later: Callable[..., None],
    end: Callable[..., None],
) -> None:
    """The sensor returns the app when it has ended, at once if it had ended before."""
    handle = launch(OBEDIENT)
    later(end)

    ended, again = wait(app_handle=handle), wait(app_handle=handle)

    assert "success" == ended.task_state
    assert {
        "app_handle": handle,
        "app_id": handle.rpartition("/")[2],
        "state": "SUCCEEDED",
        "replicas": [
            {"role": "worker", "id": 0, "state": "SUCCEEDED", "exit_code": 0},
            {"role": "worker", "id": 1, "state": "SUCCEEDED", "exit_code": 0},
        ],
    } == ended.xcom()
    assert ended.xcom() == again.xcom()


def test_waits_for_running(
    launch: Callable[..., str],
    wait: Callable[..., Ended],
    app_id: str,
    later: Callable[..., None],
    states: Callable[[], list[AppState]],
) -> None:
    """The sensor waits for an app that is launched later, named by its id; the app runs on."""
    later(launch, FOREVER, patient=True)

    ended = wait(app_id=app_id, target_states={"RUNNING"}, wait_for_launch=True)

    assert "RUNNING" == ended.xcom()["state"]
    assert f"local_docker://torchx/{app_id}" == ended.xcom()["app_handle"]
    assert [AppState.RUNNING] * 2 == states()


def test_a_failure_is_not_acted_on(
    launch: Callable[..., str],
    wait: Callable[..., Ended],
    later: Callable[..., None],
    end: Callable[..., None],
    states: Callable[[], list[AppState]],
) -> None:
    """A failed app fails the sensor for good, and the sensor leaves its replicas alone."""
    handle = launch(FOREVER)
    later(end, "worker/1")

    ended = wait(app_handle=handle, retries=2)

    assert "failed" == ended.task_state
    assert isinstance(ended.error, StateUnreachableError)
    assert "is FAILED instead of SUCCEEDED." in str(ended.error)
    assert [AppState.RUNNING, AppState.FAILED] == states()


def test_what_can_not_come_any_more(
    launch: Callable[..., str],
    wait: Callable[..., Ended],
    later: Callable[..., None],
    end: Callable[..., None],
) -> None:
    """An app that has ended otherwise fails the task, whatever the failed states are."""
    handle = launch(OBEDIENT)
    later(end)

    ended = wait(app_handle=handle, target_states="CANCELLED", failed_states=())

    assert isinstance(ended.error, StateUnreachableError)
    assert "is SUCCEEDED and will not become" in str(ended.error)


@pytest.mark.parametrize("needed", [None, "{{ 1 + 1 }}"])
def test_replicas_of_a_role(
    launch: Callable[..., str],
    wait: Callable[..., Ended],
    later: Callable[..., None],
    end: Callable[..., None],
    needed: str | None,
) -> None:
    """All replicas of a role count, or some of them, even if the others fail."""
    gang = shell(OBEDIENT, replicas=3)
    (worker,) = gang.roles
    server = replace(worker, name="server", args=["-c", FOREVER], num_replicas=1)
    handle = launch(replace(gang, roles=[server, worker]))
    later(end, "server/0", "worker/1", "worker/2", *(() if needed else ("worker/0",)))

    ended = wait(
        app_handle="{{ 'local_docker' }}://torchx/" + handle.rpartition("/")[2],
        target_states=["{{ 'SUCC' }}EEDED"],
        role="{{ 'worker' }}",
        min_replicas=needed,
    )

    assert "success" == ended.task_state
    assert handle == ended.xcom()["app_handle"]
    assert [
        ("server", "FAILED"),
        ("worker", "RUNNING" if needed else "SUCCEEDED"),
        ("worker", "SUCCEEDED"),
        ("worker", "SUCCEEDED"),
    ] == [(replica["role"], replica["state"]) for replica in ended.xcom()["replicas"]]


def test_a_removed_app(
    unstarted: str,
    wait: Callable[..., Ended],
    docker_engine: DockerEngine,
    app_id: str,
    later: Callable[..., None],
) -> None:
    """A removed app and an app that never existed are errors that say so."""
    later(docker_engine.remove, unstarted)

    errors = [wait(app_id=app_id).error, wait(app_id=app_id).error]

    for error in errors:
        assert isinstance(error, AppGoneError)
        assert str(error).startswith(f"no app {app_id!r} on this daemon.\n")


def test_timeout(
    launch: Callable[..., str], wait: Callable[..., Ended], states: Callable[[], list[AppState]]
) -> None:
    """A timeout fails the sensor for good, and the app runs on."""
    handle = launch(FOREVER)

    ended = wait(app_handle=handle, timeout=2, retries=2)

    assert "failed" == ended.task_state
    assert isinstance(ended.error, AirflowSensorTimeout)
    assert [AppState.RUNNING] * 2 == states()


@pytest.mark.parametrize("softly", ["soft_fail", "never_fail"])
def test_skips_a_failure(
    launch: Callable[..., str],
    wait: Callable[..., Ended],
    softly: str,
    later: Callable[..., None],
    end: Callable[..., None],
) -> None:
    """A failure of the app skips the sensor in every soft mode."""
    handle = launch(FOREVER)
    later(end, "worker/1")

    ended = wait(app_handle=handle, **{softly: True})

    assert "skipped" == ended.task_state
    assert [] == ended.errors


@pytest.mark.parametrize("softly", ["soft_fail", "never_fail"])
def test_skips_a_timeout(
    launch: Callable[..., str], wait: Callable[..., Ended], softly: str
) -> None:
    """A timeout skips the sensor in every soft mode, not only with Airflow's ``never_fail``."""
    assert "skipped" == wait(app_handle=launch(FOREVER), timeout=2, **{softly: True}).task_state


@pytest.mark.parametrize("softly", ["soft_fail", "never_fail"])
def test_skips_what_is_gone(
    unstarted: str,
    wait: Callable[..., Ended],
    softly: str,
    docker_engine: DockerEngine,
    app_id: str,
    later: Callable[..., None],
) -> None:
    """An app that is removed while the sensor waits skips it."""
    later(docker_engine.remove, unstarted)

    assert "skipped" == wait(app_id=app_id, **{softly: True}).task_state


@pytest.mark.parametrize("softly", ["soft_fail", "never_fail"])
def test_skips_in_an_outage(
    wait: Callable[..., Ended], softly: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage that is not over in time is skipped like an app that is gone."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")

    assert "skipped" == wait(Hasty, app_id="nobody", **{softly: True}).task_state


def test_an_outage(wait: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage that is not over in time fails a try, and the next may find the daemon."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")

    ended = wait(Hasty, app_id="nobody", retries=1, retry_delay=0.1)

    assert [AppStateUnknownError] * 2 == [type(error) for error in ended.errors]


def test_the_session_of_a_handle_is_a_connection(
    launch: Callable[..., str],
    wait: Callable[..., Ended],
    docker_engine: DockerEngine,
    monkeypatch: pytest.MonkeyPatch,
    later: Callable[..., None],
    end: Callable[..., None],
) -> None:
    """The session of a handle names the connection, unless it is TorchX's own."""
    connection = {"conn_type": "torchx_docker", "host": docker_engine.info().url}
    monkeypatch.setenv("AIRFLOW_CONN_GPU_HOST", json.dumps(connection))
    handle = launch(OBEDIENT).replace("torchx", "gpu_host")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    later(end)

    ended = wait(app_handle=handle)

    assert handle == ended.xcom()["app_handle"]


def test_the_default_connection_is_told(
    launch: Callable[..., str],
    wait: Callable[..., Ended],
    docker_engine: DockerEngine,
    app_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The handle of an app that was given by its id names the default connection."""
    connection = {"conn_type": "torchx_docker", "host": docker_engine.info().url}
    monkeypatch.setenv("AIRFLOW_CONN_GPU_HOST", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__TORCHX__DEFAULT_CONN_ID", "gpu_host")
    launch(OBEDIENT)

    ended = wait(app_id=app_id, target_states="RUNNING")

    assert f"local_docker://gpu_host/{app_id}" == ended.xcom()["app_handle"]


def test_mapped(
    launch: Callable[..., str],
    wait: Callable[..., Ended],
    later: Callable[..., None],
    end: Callable[..., None],
) -> None:
    """One sensor waits for each app of a list."""
    handles = [launch(OBEDIENT, suffix=suffix) for suffix in ("-a", "-b")]
    later(end)

    ended = wait(expand={"app_handle": handles})

    assert handles == [ended.xcom(map_index=index)["app_handle"] for index in (0, 1)]
