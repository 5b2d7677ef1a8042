"""What the pages tell people to do in an Airflow works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import AirflowClusterPolicyViolation

from airflow_torchx.hooks import TorchXDockerHook
from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.specs import AppDef, Role
from airflow_torchx.testing import FakeEngine, FakeSwarm, Program
from tests import pages
from tests.airflow.conftest import DAGS
from tests.airflow.one_task import OneTask
from tests.conftest import require_docker
from tests.integration.uv_project import BASE


@pytest.mark.usefixtures("airflow_home")
def test_a_dag_runs_on_the_fake_engine(monkeypatch: pytest.MonkeyPatch, app_id: str) -> None:
    """The test of the page passes for a DAG with a task of two replicas, one of which fails."""
    (block,) = [b for b in pages.blocks("python") if "my_dag.test()" in b.text]
    page: dict[str, Any] = {}
    exec(block.text, page)  # noqa: S102 - our own page
    role = Role("train", "my-image", entrypoint="python", num_replicas=2)

    with OneTask(DAGS, FakeEngine(), app_id) as task:
        page["my_dag"] = SimpleNamespace(test=lambda: task.run(app=AppDef("fit", [role])))
        page["test_a_lost_replica_fails_the_run"](monkeypatch)


@pytest.mark.usefixtures("airflow_home")
@pytest.mark.parametrize("loses", [False, True])
def test_a_dag_runs_on_the_fake_swarm(
    monkeypatch: pytest.MonkeyPatch, app_id: str, *, loses: bool
) -> None:
    """The operator runs its app on a swarm in memory, and fails if a node is lost."""
    program = Program(lines=["epoch 1"], runs_for_s=None if loses else 0.0)
    engine = FakeSwarm(nodes=2, images=["my-image"], programs=program)

    def lose(verb: str, name: str) -> None:
        if loses and verb == "logs" and name.endswith("-1"):
            engine.lose(engine.placed()[name])

    engine.before = lose
    scheduler = SwarmScheduler("test", engine)
    monkeypatch.setattr(TorchXDockerHook, "get_conn", lambda _: scheduler)
    role = Role("train", "my-image", entrypoint="python", num_replicas=2)

    with OneTask(DAGS, FakeEngine(), app_id) as task:
        ended = task.run(app=AppDef("fit", [role]))

    assert ("failed" if loses else "success") == ended.state


@pytest.mark.parametrize(
    ("arguments", "mapped"),
    [
        ({"options": {"privileged": True}}, None),
        ({"options": {"privileged": True}}, {"image": ["a", "b"]}),
        ({}, {"options": [{"privileged": True}]}),
    ],
)
def test_the_cluster_policy_refuses(
    arguments: dict[str, Any], mapped: dict[str, Any] | None
) -> None:
    """The policy of the page refuses privileged tasks, mapped ones too, and no others."""
    (block,) = [b for b in pages.blocks("python") if "def task_policy" in b.text]
    page: dict[str, Any] = {}
    exec(block.text, page)  # noqa: S102 - our own page

    def task(**given: Any) -> Any:  # noqa: ANN401 - a task or a mapped one
        if mapped is None:
            return TorchXDockerOperator(task_id="train", component="dist.ddp", **given)
        partial = TorchXDockerOperator.partial(task_id="train", component="dist.ddp", **given)
        return partial.expand(**mapped)

    with pytest.raises(AirflowClusterPolicyViolation):
        page["task_policy"](task(**arguments))
    mapped = mapped and {"image": ["a", "b"]}
    page["task_policy"](task(options={"privileged": False}))


@pytest.mark.docker
@pytest.mark.xdist_group("images")
@pytest.mark.usefixtures("no_images_left")
@pytest.mark.timeout(300)
def test_the_first_dag_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's commands run its first DAG with a new Airflow, and show both replicas' lines."""
    require_docker().close()
    script, dag = pages.blocks("python", pages.ROOT / "docs" / "getting-started.md")
    image = "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime"
    (tmp_path / "first.py").write_text(dag.text.replace(image, BASE))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text(script.text)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path))

    ran = subprocess.run(
        ["bash", "-euc", pages.block_with("airflow dags test")],
        check=False,
        capture_output=True,
        text=True,
    )

    assert 0 == ran.returncode, ran.stdout + ran.stderr
    assert f"1 file, {len(script.text)} bytes" in ran.stdout
    assert ["0", "1"] == sorted(re.findall(r"train/(\d) \[0\]:rank \1 of 2", ran.stdout))
