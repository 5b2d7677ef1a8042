"""What a task makes of the end of its app, and what its app is given."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics.stats_utils import get_stats_factory

from airflow_torchx.errors import AppFailedError
from airflow_torchx.operators import TorchXDockerOperator
from tests.airflow.apps import DEAF, FOREVER, both_modes, shell
from tests.integration.uv_project import BASE

if TYPE_CHECKING:
    from tests.airflow.one_task import OneTask

pytestmark = pytest.mark.docker


@both_modes
def test_identity(one_task: OneTask) -> None:
    """XComs name the app, its containers and images, and tell how each replica ended."""
    ended = one_task.run(
        app=shell("exit ${replica_id}"),
        on_finish="keep",
        options={"failure_policy": "wait_all"},  # else replica 0 may be stopped first
    )

    ids = {"worker/0": ended.rows[1].id, "worker/1": ended.rows[0].id}
    assert ended.xcom("app_handle").endswith(f"/{ended.xcom('app_id')}")
    assert ids == ended.xcom("container_ids")
    assert ended.xcom("image_ids")["worker"].startswith("sha256:")
    assert [("SUCCEEDED", 0), ("FAILED", 1)] == [
        (replica["state"], replica["exit_code"]) for replica in ended.xcom("replicas")
    ]


@both_modes
def test_skip_on_exit_code(one_task: OneTask) -> None:
    """An exit code that means "nothing to do" skips the task, and its containers are removed."""
    ended = one_task.run(app=shell("exit 99"), skip_on_exit_code=[98, 99])

    assert "skipped" == ended.task_state
    assert [] == ended.rows


@both_modes
@pytest.mark.timeout(240)
def test_the_exit_code_of_a_worker_of_torchrun(one_task: OneTask) -> None:
    """Torchrun ends with 1; the exit code of its worker is the one that counts."""
    worker = Path(__file__).parents[1] / "integration" / "failing_worker.py"
    mount = f"--mounts=type=bind,src={worker},dst=/worker.py,readonly"
    ended = one_task.run(
        component="dist.torchrun",
        component_args=["-j", "2x1", "--cpu", "1", mount, "--script", "/worker.py", "gloo-exit"],
        image=BASE,
        skip_on_exit_code=85,
    )

    assert "skipped" == ended.task_state
    workers = [one["worker"] for one in ended.xcom("replicas") if one["worker"]]
    assert (1, 85) in [(worker["rank"], worker["exit_code"]) for worker in workers]
    assert [] == ended.rows


@both_modes
def test_a_failure_rule_that_fails(one_task: OneTask) -> None:
    """A rule with the action fail brings no retry, also if its line came long before the end."""
    script = "echo 'No space left on device'; seq 300; exit 3"
    ended = one_task.run(app=shell(script), retries=3, retry_delay=timedelta(0))

    assert isinstance(ended.error, AirflowFailException)
    assert "failure rule: no_space_left" in str(ended.error)
    assert [] == ended.errors[1:]
    assert "no_space_left" in {one["rule"] for one in ended.xcom("replicas")}


class Counters(NoStatsLogger):
    """Where Airflow sends metrics: it keeps what is counted."""

    counted: ClassVar[list[tuple[str, Any]]] = []

    @classmethod
    def incr(cls, stat: str, *args: Any, tags: Any = None, **named: Any) -> None:  # noqa: ANN401 - as Airflow has it
        """Keep the name and the tags."""
        del args, named
        cls.counted.append((stat, tags))


@both_modes
def test_the_metric_of_a_failure_rule(one_task: OneTask) -> None:
    """Each failed try counts one failure with the name of the rule."""
    Counters.counted.clear()
    stats.initialize(factory=Counters, export_legacy_names=False)
    try:
        one_task.run(app=shell("echo 'No space left on device'; exit 3"))
    finally:
        stats.initialize(factory=get_stats_factory(), export_legacy_names=False)

    ((name, tags),) = [one for one in Counters.counted if one[0].startswith("torchx.failure_rule")]
    assert ("torchx.failure_rule.no_space_left", "no_space_left") == (name, tags["rule"])


@both_modes
def test_a_failure_rule_of_the_task(one_task: OneTask) -> None:
    """A rule of the task replaces the built-in one of its name, and may allow a retry."""
    rule = {"name": "no_space_left", "pattern": "No space left", "action": "restart"}
    ended = one_task.run(
        app=shell("echo 'No space left on device'; test \"$TRY\" = 2"),
        env={"TRY": "{{ ti.try_number }}"},
        options={"failure_rules": [rule]},
        retries=1,
        retry_delay=timedelta(0),
    )

    (first,) = ended.errors
    assert "success" == ended.state
    assert isinstance(first, AppFailedError)
    assert "no_space_left" == first.rule


@both_modes
def test_fail_on_exit_code(one_task: OneTask) -> None:
    """An exit code after which a retry is pointless brings none."""
    ended = one_task.run(
        app=shell("exit 42"), fail_on_exit_code=42, retries=3, retry_delay=timedelta(0)
    )

    assert isinstance(ended.error, AirflowFailException)
    assert "exit code 42" in str(ended.error)


@both_modes
def test_execution_timeout(one_task: OneTask) -> None:
    """The execution timeout counts from the start of the try, stops the app, and leaves nothing."""
    ended = one_task.run(app=shell(FOREVER), execution_timeout=timedelta(seconds=5))

    assert isinstance(ended.error, AirflowTaskTimeout)
    assert [] == ended.rows


def test_a_timeout_that_is_shorter_than_the_stop(one_task: OneTask) -> None:
    """Airflow's timeout restarts after a deferral and expires while the app is being stopped."""
    ended = one_task.run(app=shell(DEAF), deferrable=True, execution_timeout=timedelta(seconds=4))

    assert "has not ended within execution_timeout (0:00:04)" in str(ended.error)
    assert [] == ended.rows


@both_modes
def test_a_result_that_was_not_reported_is_found_again(one_task: OneTask, tmp_path: Path) -> None:
    """What fails after the app has succeeded brings a retry, but no second run of the app."""
    app = shell(f"echo ran >> {tmp_path}/runs; echo '[1]' > /result.json", mount=tmp_path)

    ended = one_task.run(
        app=app,
        result_path="/result.json",
        retries=1,
        retry_delay=timedelta(0),
        post_execute=fail_in_the_first_try,
    )

    assert "success" == ended.state
    assert [1] == ended.xcom()
    assert ended.xcom("app_handle").endswith("-t1")
    assert ["ran", "ran"] == (tmp_path / "runs").read_text().split()
    assert [] == ended.rows


def fail_in_the_first_try(context: Any, result: object) -> None:  # noqa: ANN401 - Airflow's hook
    """Raise, once."""
    if context["ti"].try_number == 1:
        msg = f"cannot report {result}"
        raise RuntimeError(msg)


def test_a_refused_result_brings_a_new_run(one_task: OneTask, tmp_path: Path) -> None:
    """A retry after a rejected result runs the app again instead of adopting it."""
    script = f"test -e {tmp_path}/again && echo 7 > /result.json; touch {tmp_path}/again"

    ended = one_task.run(
        app=shell(script, replicas=1, mount=tmp_path),
        result_path="/result.json",
        retries=1,
        retry_delay=timedelta(0),
    )

    assert "success" == ended.state
    assert 7 == ended.xcom()
    assert ended.xcom("app_handle").endswith("-t2")


def test_where_it_was_launched(one_task: OneTask) -> None:
    """A program learns its DAG, run and task from Airflow's own variables."""
    script = 'echo "[\\"$AIRFLOW_CTX_TASK_ID\\", \\"$AIRFLOW_CTX_TRY_NUMBER\\"]" > /result.json'

    ended = one_task.run(app=shell(script), result_path="/result.json")

    assert ["gang", "1"] == ended.xcom()


def test_connections_in_the_environment(one_task: OneTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection arrives in Airflow's own form, and its password is in no log or error."""
    connection = {"conn_type": "http", "host": "hub", "login": "me", "password": "open-sesame"}
    monkeypatch.setenv("AIRFLOW_CONN_HUB", json.dumps(connection))

    ended = one_task.run(app=shell('echo "$AIRFLOW_CONN_HUB"; exit 1'), env_conn_ids=["hub"])

    assert "open-sesame" not in str(ended.error)
    assert "***" in str(ended.error)


def test_an_app_is_a_template(one_task: OneTask) -> None:
    """Every text of an `AppDef` may be a template."""
    app = shell(
        "echo '[\"'$WHO'\", \"{{ ti.task_id }}\"]' > /{{ 'result' }}.json",
        env={"WHO": "{{ dag.dag_id }}"},
    )

    ended = one_task.run(app=app, result_path="/result.json")

    dag_id, task_id = ended.xcom()
    assert "gang" == task_id
    assert dag_id in ended.xcom("app_handle")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"app": None}, "^give exactly one of app= and component=, got neither$"),
        ({"component": "dist.ddp"}, "^give exactly one of app= and component=, got both$"),
        ({"on_finish": "burn"}, "choose from delete, keep, keep_failed"),
        ({"on_worker_shutdown": "burn"}, "choose from defer, keep, stop"),
        ({"skip_on_exit_code": 0}, "exit codes from 1 to 255"),
        ({"fail_on_exit_code": ["1"]}, "exit codes from 1 to 255"),
        ({"log_max_mb": "1"}, "log_max_mb='1': give a number above 0"),
        ({"result_path": "r.json"}, "result_path='r.json': give the absolute path of a file"),
        ({"result_path": PurePosixPath("r.json")}, "result_path='r.json': give the absolute path"),
        (
            {"result_path": "/r", "wait_for_completion": False},
            "result_path needs wait_for_completion=True",
        ),
        (
            {"skip_on_exit_code": 3, "wait_for_completion": False},
            "skip_on_exit_code needs wait_for_completion=True",
        ),
        (
            {"fail_on_exit_code": [3], "wait_for_completion": False},
            "fail_on_exit_code needs wait_for_completion=True",
        ),
        (
            {"on_worker_shutdown": "keep", "durable": False},
            "on_worker_shutdown='keep' needs durable=True",
        ),
    ],
)
def test_wrong_arguments_are_told_when_the_dag_is_parsed(
    one_task: OneTask, arguments: dict[str, Any], told: str
) -> None:
    """Wrong arguments that cannot be templates fail the DAG file."""
    with pytest.raises(ValueError, match=told):
        one_task.run(**{"app": shell("true"), **arguments})


def test_an_app_that_renders_to_none() -> None:
    """An app that is None only at run time, like the output of another task, is an error."""
    task = TorchXDockerOperator(task_id="gang", app=shell("true"))
    task.app = None

    with pytest.raises(ValueError, match="app= and component=, got neither"):
        task.app_def()


def test_a_template_that_renders_to_a_relative_path(one_task: OneTask) -> None:
    """A result path that is relative when it is rendered fails the task before its launch."""
    ended = one_task.run(app=shell("true"), result_path="{{ 'r' }}.json", on_finish="keep")

    assert "result_path='r.json': give the absolute path of a file" == str(ended.error)
    assert [] == ended.rows
