"""``@task.torchx`` under `dag.test()`, on a real Docker Engine with a real PyTorch image."""

from __future__ import annotations

import logging
import runpy
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Final

import pytest
from airflow.sdk import DAG, task

from airflow_torchx.core.engine import labels
from airflow_torchx.decorators import torchx_task
from airflow_torchx.errors import FunctionError
from tests.airflow.conftest import DAGS
from tests.airflow.in_process import run_dag
from tests.integration.uv_project import BASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.models.dagrun import DagRun

    from airflow_torchx.docker_engine import DockerEngine

HEAD: Final = f"""\
from __future__ import annotations

from airflow.sdk import dag, task

IMAGE = {BASE!r}
SMALL = {{"image": IMAGE, "cpu": 1, "memMB": 512}}

"""
MIB: Final = 1 << 20


@pytest.fixture
def run(
    airflow_home: Path, docker_engine: DockerEngine, no_images_left: None, app_id: str
) -> Iterator[Callable[[str], DagRun]]:
    """Return what runs a DAG file, given as text, whose DAG function is called ``flow``."""
    assert airflow_home == DAGS.parent
    assert no_images_left is None
    file = DAGS / f"{app_id}.py"

    def _run(text: str) -> DagRun:
        file.write_text(
            f"{HEAD}{dedent(text)}\nmade = dag(schedule=None, dag_id={app_id!r})(flow)()"
        )
        made = runpy.run_path(str(file))["made"]
        assert isinstance(made, DAG)
        return run_dag(made)

    yield _run
    assert () == docker_engine.rows({labels.DAG_ID: app_id})
    file.unlink()


def result(run: DagRun, task_id: str, key: str = "return_value") -> Any:  # noqa: ANN401 - any JSON
    """Return what the tasks of this id pushed: one value, or the list of a mapped task's."""
    pushed = [
        ti.xcom_pull(task_ids=task_id, key=key, map_indexes=ti.map_index)
        for ti in sorted(run.get_task_instances(), key=lambda ti: ti.map_index)
        if ti.task_id == task_id
    ]
    return pushed[0] if len(pushed) == 1 else pushed


@pytest.mark.docker
@pytest.mark.timeout(300)
def test_function_runs_in_replicas(
    run: Callable[[str], DagRun], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A function runs with arguments, workspace and XComs, mapped too, whether deferred or not."""
    caplog.set_level(logging.INFO, "airflow_torchx")
    tmp_path.joinpath("mine.py").write_text("FACTOR = 10")

    ended = run(
        f"""
        def flow():
            @task
            def numbers():
                return [1, 2]

            @task.torchx(**SMALL, num_replicas=2, workspace={str(tmp_path)!r})
            def scale(number: int, ds=None, *, plus: int = 0) -> dict:
                import os
                import mine

                print("replica", os.environ["TORCHX_REPLICA_IDX"])
                return {{"scaled": mine.FACTOR * number + plus, "params": ds}}

            @task.torchx(image=IMAGE, multiple_outputs=True, deferrable=True)
            def add(every, large):
                return {{"total": sum(each["scaled"] for each in every), "size": len(large)}}

            @task
            def large():
                return "$$" + "x" * {MIB // 2}

            add(scale.partial(plus=1).expand(number=numbers()), large())
        """
    )

    assert "success" == ended.state
    day = ended.logical_date or ended.run_after
    expected = [{"scaled": 11, "params": f"{day:%Y-%m-%d}"}]
    assert [*expected, {**expected[0], "scaled": 21}] == result(ended, "scale")
    assert (32, MIB // 2 + 2) == (result(ended, "add", "total"), result(ended, "add", "size"))
    built = [line for line in caplog.messages if line.startswith("built workspace image")]
    assert 2 == len(built)


@pytest.mark.docker
@pytest.mark.timeout(300)
def test_function_runs_under_torchrun(run: Callable[[str], DagRun]) -> None:
    """The processes of all replicas meet, and what rank 0 returns is the result."""
    ended = run(
        """
        def flow():
            @task.torchx(**SMALL, num_replicas=2, nproc_per_node=2)
            def meet():
                import os

                import torch
                import torch.distributed as dist

                dist.init_process_group("gloo")
                rank = torch.tensor([float(dist.get_rank())])
                dist.all_reduce(rank)
                dist.barrier()
                dist.destroy_process_group()
                if os.environ["RANK"] == "0":
                    return {"sum": rank.item(), "world_size": int(os.environ["WORLD_SIZE"])}

            meet()
        """
    )

    assert {"sum": 6.0, "world_size": 4} == result(ended, "meet")


@pytest.mark.docker
@pytest.mark.timeout(300)
def test_the_process_that_raised_is_named(run: Callable[[str], DagRun]) -> None:
    """Of several processes, the one that failed first is in the XCom, with its error."""
    ended = run(
        """
        def flow():
            @task.torchx(**SMALL, num_replicas=2, nproc_per_node=2)
            def go():
                import os

                import torch
                import torch.distributed as dist

                dist.init_process_group("gloo")
                if os.environ["RANK"] == "3":
                    raise ValueError("loss is nan")
                dist.all_reduce(torch.ones(1))

            go()
        """
    )

    workers = [one["worker"] for one in result(ended, "go", "replicas") if one["worker"]]
    assert "failed" == ended.state
    assert (3, 1, "ValueError: loss is nan") in [
        (worker["rank"], worker["exit_code"], worker["message"]) for worker in workers
    ]


@pytest.mark.docker
@pytest.mark.timeout(300)
def test_function_that_raises(
    run: Callable[[str], DagRun], capsys: pytest.CaptureFixture[str], app_id: str
) -> None:
    """The traceback shows the user's file and line, and the task fails."""
    ended = run(
        """
        def flow():
            @task.torchx(**SMALL)
            def go(loss):
                raise ValueError(f"loss is {loss}")

            go("nan")
        """
    )

    line = HEAD.count("\n") + 5
    log = capsys.readouterr().out
    assert "failed" == ended.state
    assert f'File "{app_id}.py", line {line}, in go' in log
    assert 'raise ValueError(f"loss is {loss}")' in log
    assert "ValueError: loss is nan" in log


@pytest.mark.docker
def test_argument_that_is_no_json(
    run: Callable[[str], DagRun], capsys: pytest.CaptureFixture[str]
) -> None:
    """An argument that is not JSON fails the task by its name, and nothing is launched."""
    ended = run(
        """
        def flow():
            @task.torchx(**SMALL)
            def go(data_interval_start=None):
                return 1

            go("{{ ti }}")

            @task.torchx(**SMALL)
            def wrong(run_after, ti=None):
                return 1

            wrong(1)
        """
    )

    assert "failed" == ended.state
    assert "argument ti of wrong() is a airflow." in capsys.readouterr().out
    assert 1 == result(ended, "go")


def train(epochs: int = 1) -> int:
    """Return the number of epochs."""
    return epochs


def operator(**arguments: Any) -> Any:  # noqa: ANN401 - any argument
    """Return the task that a decorated function becomes."""
    with DAG("made", schedule=None):
        decorated: Any = torchx_task(train, task_id="train", **arguments)
        return decorated().operator


def test_decorator_is_known_to_airflow() -> None:
    """Airflow offers our decorator like that of any other provider."""
    assert task.torchx is torchx_task


def test_arguments_become_the_app() -> None:
    """A template that renders to a number may be an argument that takes a number."""
    made = operator(image="img", num_replicas="2", cpu="0.5", gpu="1", memMB="64", env={"A": 1})
    (role,) = made.app_def().roles

    assert ("img", 2, "1") == (role.image, role.num_replicas, role.env["A"])
    assert (0.5, 1, 64) == (role.resource.cpu, role.resource.gpu, role.resource.memMB)
    assert '"file": "test_decorator.py"' in role.env["AIRFLOW_TORCHX_CALL_0"]


def test_result_needs_somebody_who_waits() -> None:
    """A task that does not wait returns the handle, as the operator does."""
    assert operator(image="img", wait_for_completion=False).result_path is None


def test_file_elsewhere_is_shown_whole() -> None:
    """A traceback shortens the path of a file only inside the DAGs folder."""
    made = operator(image="img")
    made.dag.fileloc = "/dags/other.py"

    assert f'"file": "{Path(__file__)}"' in made.app_def().roles[0].env["AIRFLOW_TORCHX_CALL_0"]


@pytest.mark.parametrize("name", ["app", "component", "component_args"])
def test_another_program_is_refused(name: str) -> None:
    """The decorator refuses arguments that name another program than the function."""
    with pytest.raises(FunctionError, match=f"does not accept {name}="):
        operator(image="img", **{name: "x"})


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("memMB", "1 GB", "'1 GB' is not a number"),
        ("num_replicas", True, "True is not a number"),
        ("gpu", 10**400, "0 is not a number"),
        ("num_replicas", "1.5", "'1.5' is not a whole number"),
    ],
    ids=["text", "boolean", "huge", "fraction"],
)
def test_number_that_is_none(name: str, value: object, shown: str) -> None:
    """An argument that must be a number is named if it is not one."""
    with pytest.raises(FunctionError, match=rf"{name}=.*{shown}\."):
        operator(image="img", **{name: value}).app_def()


def test_closure_is_an_error_of_the_dag_file() -> None:
    """A closure is an error when the DAG file is parsed, not when the task runs."""
    around = 1

    def inner() -> int:
        return around

    with pytest.raises(FunctionError, match="uses around of its enclosing function"):
        torchx_task(inner)()
