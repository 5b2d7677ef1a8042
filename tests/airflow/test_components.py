"""Tasks whose app is a component's, a user's own component's, or TorchX's, on a real daemon."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core.engine import labels
from tests.airflow.apps import both_modes
from tests.airflow.conftest import DAGS
from tests.airflow.in_process import run_dag
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.one_task import OneTask

pytestmark = pytest.mark.docker

ROOT: Final = Path(__file__).parents[2]
OWN: Final = f"""\
from airflow_torchx.specs import AppDef, Resource, Role

def number(*args: str, of: int) -> AppDef:
    role = Role(
        "r",
        {BUSYBOX!r},
        entrypoint="sh",
        args=["-c", f"echo '[{{of}}, \\"{{args[0]}}\\"]' > /r.json"],
        resource=Resource(cpu=0, gpu=0, memMB=64),
    )
    return AppDef("own", [role])
"""
DAG_FILE: Final = """\
from airflow.sdk import dag
from airflow_torchx.operators import TorchXDockerOperator

@dag(schedule=None, dag_id={dag_id!r})
def flow():
    TorchXDockerOperator(
        task_id="own",
        component={component!r},
        component_args=["--of", "{{{{ 6 * 7 }}}}", "x"],
        result_path="/r.json",
    )

made = flow()
"""


@pytest.fixture
def torchx() -> Iterator[Any]:
    """Return TorchX's specs, found behind everything that this environment has."""
    path, modules = [*sys.path], {*sys.modules}
    (site,) = (ROOT / ".venv-torchx").glob("lib/python3*/site-packages")
    sys.path.append(str(site))
    import torchx.specs

    yield torchx.specs

    sys.path[:] = path
    for name in {*sys.modules} - modules:
        if name.partition(".")[0] in {"torchx", "docstring_parser"}:
            del sys.modules[name]


def test_built_in_component(one_task: OneTask) -> None:
    """A component takes the arguments of TorchX's command line, and they may be templates."""
    ended = one_task.run(
        component="utils.sh",
        component_args='--memMB 64 -- sh -c \'echo "\\"{{ ti.task_id }}\\"" > /r.json\'',
        image=BUSYBOX,
        result_path="/r.json",
    )

    assert "gang" == ended.xcom()


def test_component_of_a_file_beside_the_dag(
    airflow_home: Path, docker_engine: DockerEngine, app_id: str
) -> None:
    """A component file need not be importable; its text at the time of the task counts."""
    assert airflow_home == DAGS.parent
    own, file = DAGS / "parts" / f"{app_id}-own.py", DAGS / f"{app_id}.py"
    own.parent.mkdir()
    file.write_text(DAG_FILE.format(dag_id=app_id, component=f"parts/{own.name}:number"))

    made = runpy.run_path(str(file))["made"]
    own.write_text(OWN)
    run = run_dag(made)

    (ti,) = run.get_task_instances()
    assert [42, "x"] == ti.xcom_pull(task_ids="own", key="return_value")
    assert () == docker_engine.rows({labels.DAG_ID: app_id})
    file.unlink()
    shutil.rmtree(own.parent)


@both_modes
def test_app_of_torchx(one_task: OneTask, torchx: Any) -> None:  # noqa: ANN401 - untyped module
    """A TorchX app is launched as ours, with templates, macros and the task's environment."""
    script = 'echo "[${replica_id}, \\"{{ ti.task_id }}\\", \\"$$A$$B\\"]" > /r.json'
    role = torchx.Role(
        "r",
        BUSYBOX,
        entrypoint="sh",
        args=["-c", script],
        env={"A": "a", "B": "b"},
        num_replicas=2,
        resource=torchx.Resource(cpu=0, gpu=0, memMB=64),
    )

    ended = one_task.run(app=torchx.AppDef("theirs", [role]), env={"B": "c"}, result_path="/r.json")

    assert [0, "gang", "ac"] == ended.xcom()
