"""Tests the app that runs a function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_torchx.core.workspace.source import inline_text
from airflow_torchx.function.app import Replicas, app_of_function
from airflow_torchx.function.source import FunctionSource
from airflow_torchx.specs import BindMount, Resource, Role, macros

if TYPE_CHECKING:
    import pytest

TEXT: Final = "def train():\n    return '%20 é'\n"
SOURCE: Final = FunctionSource(name="train", text=TEXT, file="x.py", line=1, lazy_annotations=False)


def role_of(replicas: Replicas, *, workspace: str | None = None, python: str = "python3") -> Role:
    """Return the app's only role."""
    app = app_of_function(SOURCE, {"CALL": "x"}, replicas, workspace=workspace, python=python)
    assert "train" == app.name
    (role,) = app.roles
    return role


def test_each_replica_calls_the_function() -> None:
    """Each replica runs the function."""
    role = role_of(Replicas(count=3, cpu=4, gpu=1, memMB=512), python="/opt/python")

    assert "train" == role.name
    assert ("/opt/python", (".airflow-torchx/run.py",)) == (role.entrypoint, role.args)
    assert 3 == role.num_replicas
    assert Resource(cpu=4, gpu=1, memMB=512) == role.resource
    assert {
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "4",
        "CALL": "x",
    } == role.env


def test_function_and_runner_are_added_to_the_workspace() -> None:
    """The function and its runner are inline sources after the user's workspace."""
    workspace = role_of(Replicas(), workspace="code").workspace
    assert workspace
    user, runner, function = workspace.projects.items()

    assert ("code", "") == user
    assert ".airflow-torchx/run.py" == runner[1]
    assert inline_text(runner[0]).startswith(b'"""Runs one function in a container')
    assert ".airflow-torchx/function-train.py" == function[1]
    assert TEXT.encode() == inline_text(function[0])


def test_under_torchrun_rank_0_is_in_replica_0() -> None:
    """The torchrun command line is dist.ddp's with node ranks by replica."""
    mounts = ["type=bind", "src=/data", "dst=/data"]
    role = role_of(Replicas(count=2, cpu=4.5, nproc_per_node=2, mounts=mounts))

    assert ("train", "bash", 2) == (role.name, role.entrypoint, role.num_replicas)
    assert "torchrun --rdzv_backend static " in role.args[1]
    assert f"--node_rank '{macros.replica_id}' .airflow-torchx/run.py" in role.args[1]
    assert "--nproc_per_node 2" in role.args[1]
    assert Resource(cpu=4.5, gpu=0, memMB=1024) == role.resource
    assert (BindMount("/data", "/data"),) == role.mounts
    assert ("2", "1") == (role.env["OMP_NUM_THREADS"], role.env["PYTHONUNBUFFERED"])
    assert "TORCHX_TRACKING_RUN_NAME" in role.env


def test_torchrun_in_one_replica_uses_a_free_port() -> None:
    """A single replica uses the c10d backend, which can choose a free port."""
    role = role_of(Replicas(cpu=1, nproc_per_node=2))

    assert "--rdzv_backend c10d --rdzv_endpoint localhost:0" in role.args[1]
    assert "1" == role.env["OMP_NUM_THREADS"]


def test_gpus_without_a_process_each(caplog: pytest.LogCaptureFixture) -> None:
    """A warning is logged if torchrun does not start one process for each GPU."""
    role_of(Replicas(gpu=2, nproc_per_node=2))
    assert not caplog.records

    role_of(Replicas(count=2, gpu=4, nproc_per_node=2))
    assert "processes and GPUs of each node differ: 2 and 4" in caplog.text
