"""What a task gives to its DAG, and what it leaves on the daemon."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.errors import AppFailedError
from airflow_torchx.specs import to_dict
from tests.airflow.apps import FOREVER, both_modes, shell
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_torchx.core.engine.protocol import Engine
    from tests.airflow.one_task import OneTask

pytestmark = pytest.mark.docker


def test_returns_handle(one_task: OneTask) -> None:
    """Without a result file the handle is the return value, and it is under app_handle too."""
    ended = one_task.run(app=shell("true"))

    assert "success" == ended.state
    assert ended.xcom().startswith("local_docker://torchx/")
    assert ended.xcom() == ended.xcom("app_handle")
    assert [] == ended.rows


@both_modes
def test_returns_result(one_task: OneTask) -> None:
    """The JSON that replica 0 wrote is the return value, also when the app came as a mapping."""
    script = """echo '{"rank": ${replica_id}}' > /result.json"""

    ended = one_task.run(app=to_dict(shell(script)), result_path="/result.json")

    assert {"rank": 0} == ended.xcom()
    assert ended.xcom("app_handle").startswith("local_docker://torchx/")


def test_does_not_wait(one_task: OneTask) -> None:
    """With wait_for_completion=False the task is over and its app runs on."""
    ended = one_task.run(app=shell(FOREVER), wait_for_completion=False)

    assert "success" == ended.state
    assert ended.xcom() == ended.xcom("app_handle")
    assert ["running", "running"] == [row.state for row in ended.rows]


def test_connection(
    one_task: OneTask, docker_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection, named by a template, says where the daemon is, and its name is in handles."""
    connection = {"conn_type": "torchx_docker", "host": docker_engine.info().url}
    monkeypatch.setenv("AIRFLOW_CONN_GPU_HOST", json.dumps(connection))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")

    ended = one_task.run(app=shell("true"), torchx_conn_id="{{ 'gpu' }}_host")

    assert ended.xcom().startswith("local_docker://gpu_host/")


@both_modes
@pytest.mark.parametrize(
    ("on_finish", "script", "left"),
    [
        ("delete", "true", []),
        ("delete", "false", []),
        ("keep", "true", ["exited", "exited"]),
        ("keep", "false", ["exited", "exited"]),
        ("keep_failed", "true", []),
        ("keep_failed", "false", ["exited", "exited"]),
    ],
)
def test_on_finish(one_task: OneTask, on_finish: str, script: str, left: list[str]) -> None:
    """What on_finish names is what is left, after a success and after a failure."""
    ended = one_task.run(app=shell(script), on_finish=on_finish)

    assert ("success" if script == "true" else "failed") == ended.state
    assert left == [row.state for row in ended.rows]


@pytest.fixture
def torchrun(tmp_path: Path) -> str:
    """Return the argument that mounts a ``torchrun`` which leaves its words as its result."""
    programs = {"bash": 'exec sh "$@"', "torchrun": 'echo "\\"$*\\"" > /words.json'}
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    return f"--mounts=type=bind,src={tmp_path},dst=/usr/local/bin,readonly"


def test_mapped_task(one_task: OneTask, torchrun: str) -> None:
    """Each mapped task instance launches an app of its own, from arguments of its own."""
    ended = one_task.run(
        component="dist.ddp",
        image=BUSYBOX,
        result_path="/words.json",
        expand={
            "component_args": [
                ["-j", "2x1", "--memMB", "64", torchrun, "--script", "one.py"],
                f"-j 1x1 --memMB 64 {torchrun} --script two.py -- --epochs {{{{ 1 + 1 }}}}",
            ]
        },
    )

    assert "success" == ended.state
    assert ended.xcom(map_index=0).endswith(" one.py")
    assert ended.xcom(map_index=1).endswith(" two.py --epochs 2")
    assert ended.xcom("app_handle", map_index=0) != ended.xcom("app_handle", map_index=1)


def test_retry_launches_anew(one_task: OneTask) -> None:
    """A retry of a failed task launches an app of its own, whose id tells the attempt."""
    ended = one_task.run(
        app=shell('test "$TRY" = 2'),
        env={"TRY": "{{ ti.try_number }}"},
        retries=1,
        retry_delay=timedelta(0),
        on_finish="keep",
    )

    (first,) = ended.errors
    assert "success" == ended.state
    assert isinstance(first, AppFailedError)
    assert first.app_id.endswith("-t1")
    assert ended.xcom("app_handle").endswith("-t2")
    assert {"-t1", "-t2"} == {row.name.split("-worker")[0][-3:] for row in ended.rows}


def test_arguments_are_templates(one_task: OneTask) -> None:
    """Environment, options and result path are rendered by Airflow."""
    ended = one_task.run(
        app=shell('echo "[\\"$RUN\\", \\"$(pwd)\\"]" > /gang.json'),
        env={"RUN": "{{ run_id }}"},
        options={"working_dir": "/{{ 'etc' }}"},
        result_path="/{{ ti.task_id }}.json",
    )

    run_id, working_dir = ended.xcom()
    assert run_id.startswith("manual__")
    assert "/etc" == working_dir
