"""Tasks whose apps run on a Docker Swarm, by the connection alone, under `dag.test()`."""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import subprocess
import sys
import tarfile
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from structlog.testing import capture_logs

from airflow_torchx.core.engine import labels
from airflow_torchx.errors import AppFailedError
from airflow_torchx.function import runner
from airflow_torchx.hooks import TorchXDockerHook
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.sensors import TorchXDockerSensor
from airflow_torchx.specs import AppDef, RetryPolicy
from tests.airflow.apps import FOREVER, shell
from tests.airflow.conftest import DAGS
from tests.airflow.in_process import run_dag
from tests.airflow.one_task import OneTask
from tests.airflow.stack import EXAMPLES, lines_of
from tests.airflow.test_trigger import fired, trigger
from tests.conftest import BUSYBOX
from tests.swarm.hosts import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_torchx.swarm_engine import SwarmEngine
    from tests.integration.registry import Registry
    from tests.swarm.hosts import Hosts

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

both_modes = pytest.mark.parametrize(
    "swarm_task", [False, True], ids=["waits", "defers"], indirect=True
)

#: In place of PyTorch's. It trains for two epochs, on as many nodes as there are.
TORCHRUN: Final = """#!/bin/sh
echo "rank $TORCHX_REPLICA_IDX epoch 1 loss 0.7"
sleep 1
echo "rank $TORCHX_REPLICA_IDX epoch 2 loss 0.1"
echo '{"first_loss": 0.7, "final_loss": 0.1, "epochs": 2, "world_size": 2}' >/tmp/metrics.json
"""
#: A DAG whose only task runs a function of two replicas.
FUNCTION: Final = """
from airflow.sdk import dag, task

@dag(schedule=None)
def {dag_id}():
    @task.torchx(
        image={image!r}, num_replicas=2, cpu=0.5, memMB=64, options={{"placement": "spread"}}
    )
    def double(number: int) -> dict:
        import os

        return {{"on": os.uname().nodename, "doubled": 2 * number}}

    double(21)

made = {dag_id}()
"""
#: Prints the files of Python that the runner of functions needs.
USED: Final = """
import runpy, sys
runpy.run_path(sys.argv[1], run_name="runner")
files = (getattr(one, "__file__", None) for one in [*sys.modules.values()])
print(*sorted(set(filter(None, files))), sep="\\n")
"""


@pytest.fixture
def connection(
    airflow_home: Path,
    hosts: Hosts,
    swarm_registry: Registry,
    app_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Make a connection of the swarm the default one; it has a registry, and excludes the manager.

    What runs on the workers has its files there.
    """
    assert airflow_home == DAGS.parent
    endpoint, login = hosts.endpoint(), swarm_registry.login
    assert endpoint.swarm is not None
    extra = {
        "scheduler": "docker_swarm",
        "node_url": endpoint.swarm.node_url,
        "constraints": ["node.role==worker"],
        "options": {"image_repo": f"{swarm_registry.host}/team/{app_id}", "stop_grace_s": 1},
        "registries": ["swarm_registry"],
    }
    cluster = {"conn_type": "torchx_docker", "host": endpoint.url, "extra": extra}
    registry = {"conn_type": "docker", "host": login.registry}
    registry |= {"login": login.username, "password": login.password}
    monkeypatch.setenv("AIRFLOW_CONN_GPU_CLUSTER", json.dumps(cluster))
    monkeypatch.setenv("AIRFLOW_CONN_SWARM_REGISTRY", json.dumps(registry))
    monkeypatch.setenv("AIRFLOW__TORCHX__DEFAULT_CONN_ID", "gpu_cluster")


@pytest.fixture
def swarm_task(
    request: pytest.FixtureRequest, connection: None, swarm_engine: SwarmEngine, app_id: str
) -> Iterator[OneTask]:
    """Return a DAG of one task, whose apps run on the swarm."""
    assert connection is None
    deferrable = getattr(request, "param", False)
    with OneTask(DAGS, swarm_engine, app_id, deferrable=deferrable) as task:
        yield task


@both_modes
def test_an_app_that_succeeds(swarm_task: OneTask) -> None:
    """Each line is logged once, the result comes from the node of replica 0, nothing is left."""
    script = """
    seq 300 | sed 's/^/line /'
    sleep 1
    seq 301 600 | sed 's/^/line /'
    echo "{\\"on\\": \\"$(hostname)\\"}" >/result.json
    """

    with capture_logs() as log:
        ended = swarm_task.run(app=shell(script, replicas=3), result_path="/result.json")

    assert "success" == ended.state
    handle, app_id = ended.xcom("app_handle"), ended.xcom("app_id")
    assert f"docker_swarm://gpu_cluster/{app_id}" == handle
    assert {"on": f"{app_id}-worker-0"} == ended.xcom()
    replicas = [f"worker/{replica}" for replica in range(3)]
    assert replicas == list(ended.xcom("container_ids"))
    assert ended.xcom("image_ids")["worker"].startswith("sha256:")
    expected = [f"line {number}" for number in range(1, 601)]
    for replica in range(3):
        assert expected == lines_of(log, "worker", replica)
    assert [] == ended.rows


@both_modes
def test_an_app_that_fails(swarm_task: OneTask) -> None:
    """The card and the page have the exit code and the last lines; the app is kept if asked to."""
    script = f'[ "${{replica_id}}" = 1 ] && {{ echo why; exit 3; }}; {FOREVER}'

    ended = swarm_task.run(app=shell(script, replicas=3), on_finish="keep_failed")

    assert isinstance(ended.error, AppFailedError)
    assert (3, "worker/1") == (ended.error.exit_code, ended.error.replica)
    assert "worker/1 failed first: exit code 3" in ended.error.card
    assert "  why" in ended.error.card
    page = ended.xcom("torchx_app")
    page = json.loads(page) if isinstance(page, str) else page
    assert ("FAILED", 3, ["why"]) == (
        page["state"],
        *(page["failure"][k] for k in ("exit", "lines")),
    )
    assert {"exited"} == {row.state for row in ended.rows}
    assert 3 == len(ended.rows)


def test_a_sensor(swarm_task: OneTask, swarm_engine: SwarmEngine, app_id: str) -> None:
    """A sensor waits for an app of any launcher, in its worker and in the triggerer."""
    scheduler = SwarmScheduler("gpu_cluster", swarm_engine, terminal=False)
    context = scheduler.new_context(f"{app_id}-other")
    scheduler.schedule(scheduler.submit_dryrun(shell("sleep 2"), context=context))

    deferred = swarm_task.run(
        TorchXDockerSensor, app_handle=context.handle, target_states={"RUNNING"}, deferrable=True
    )
    poked = swarm_task.run(TorchXDockerSensor, app_handle=context.handle, poke_interval=0.5)

    assert context.handle == deferred.xcom()["app_handle"]
    assert "SUCCEEDED" == poked.xcom()["state"]


def test_a_restart_by_a_trigger(
    connection: None, swarm_engine: SwarmEngine, hosts: Hosts, swarm_registry: Registry, app_id: str
) -> None:
    """The node of a new round pulls the image with the login of the connection."""
    assert connection is None
    name, login = f"{swarm_registry.host}/team/{app_id}", swarm_registry.login
    with closing(hosts[1].client) as manager:
        manager.tag(BUSYBOX, name, "1")
        auth = {"username": login.username, "password": login.password}
        assert "error" not in manager.push(name, "1", auth_config=auth)
        manager.remove_image(f"{name}:1")
    app = shell('[ "$TORCHX_RESTART" = 1 ] || exit 3', replicas=1)
    (role,) = app.roles
    role = replace(role, image=f"{name}:1", max_retries=1, retry_policy=RetryPolicy.APPLICATION)

    with TorchXDockerHook("gpu_cluster").get_conn() as scheduler, hosts.paused("box3"):
        context = scheduler.new_context(app_id)
        scheduler.schedule(scheduler.submit_dryrun(AppDef("a", [role]), context=context))
        wait_until(lambda: _states(swarm_engine, app_id) == ["exited"])
    with hosts.paused("box2"):
        found = fired(trigger(app_id=app_id, torchx_conn_id="gpu_cluster", owned=True))

    assert ("reached", "SUCCEEDED") == found


def _states(engine: SwarmEngine, app_id: str) -> list[str]:
    return [row.state for row in engine.rows({labels.APP_ID: app_id})]


def _in_python(file: str) -> str:
    """Run an example as its user does, and return what it prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / file)],
        env=os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@contextmanager
def _image(hosts: Hosts, name: str, programs: Mapping[str, str], *files: str) -> Iterator[None]:
    """Give the manager a small image with shell scripts in /bin, and with files of this machine."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for program, text in programs.items():
            member = tarfile.TarInfo(f"bin/{program}")
            member.size, member.mode = len(text), 0o755
            tar.addfile(member, io.BytesIO(text.encode()))
        for file in files:
            tar.add(Path(file).resolve(), file)
    with closing(hosts[1].client) as manager:
        made = manager.create_container(BUSYBOX, ["true"])["Id"]
        manager.put_archive(made, "/", packed.getvalue())
        manager.commit(made, *name.split(":"))
        manager.remove_container(made)
        yield
        manager.remove_image(name, force=True)


@pytest.fixture
def base(hosts: Hosts, app_id: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the examples a small base image, which the manager has."""
    name, programs = f"{app_id}:base", {"bash": '#!/bin/sh\nexec sh "$@"\n', "torchrun": TORCHRUN}
    monkeypatch.setenv("AIRFLOW_TORCHX_BASE_IMAGE", name)
    with _image(hosts, name, programs):
        yield


@pytest.fixture
def python_image(hosts: Hosts, app_id: str) -> Iterator[str]:
    """Return an image with as much of this Python as a function needs, which the manager has."""
    python = str(Path(sys.executable).resolve())
    files = _printed(python, "-IS", "-c", USED, runner.__file__).splitlines()
    programs = [python, *(file for file in files if file.endswith(".so"))]
    libraries = set(re.findall(r"(/\S+) \(", _printed("ldd", *programs)))
    name = f"{app_id}:python"
    start = {"python3": f'#!/bin/sh\nexec {python} -S "$@"\n'}
    with _image(hosts, name, start, python, *files, *libraries):
        yield name


def _printed(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_function(
    connection: None, python_image: str, swarm_engine: SwarmEngine, app_id: str
) -> None:
    """What a function returns comes from the node of replica 0, and nothing is left."""
    assert connection is None
    file = DAGS / f"{app_id}.py"
    file.write_text(FUNCTION.format(dag_id=app_id, image=python_image))
    try:
        ended = run_dag(runpy.run_path(str(file))["made"])
    finally:
        file.unlink()

    assert "success" == ended.state
    (ti,) = ended.get_task_instances()
    app, found = (ti.xcom_pull(ti.task_id, key=key) for key in ("app_id", "return_value"))
    assert {"on": f"{app}-double-0", "doubled": 42} == found
    assert () == swarm_engine.rows({labels.DAG_ID: app_id})


def test_the_examples(connection: None, base: None, swarm_engine: SwarmEngine) -> None:
    """The first example and that of sensors run on the swarm as they are."""
    assert connection is base is None
    before = {row.id for row in swarm_engine.rows({labels.APP_ID: None})}

    first, gated = _in_python("quickstart.py"), _in_python("sensor_gated_pipeline.py")

    assert "loss    0.700 -> 0.100 in 2 epochs on 2 processes" in first
    for rank in range(2):
        assert f"rank {rank} epoch 2 loss 0.1" in first
    assert "The run ended as success." in gated
    assert before == {row.id for row in swarm_engine.rows({labels.APP_ID: None})}
