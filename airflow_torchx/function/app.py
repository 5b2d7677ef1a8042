"""The app that runs a function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from airflow_torchx.components import dist
from airflow_torchx.core.workspace.source import parse_workspace
from airflow_torchx.specs import (
    AppDef,
    Resource,
    Role,
    Workspace,
    macros,
    parse_mounts,
    resource,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_torchx.function.source import FunctionSource

#: Folder of a workspace that holds the function and what runs it.
FOLDER: Final = ".airflow-torchx"
_RUNNER: Final = f"{FOLDER}/run.py"


@dataclass(frozen=True, kw_only=True)
class Replicas:
    """How many replicas run a function, and what each of them has.

    Args:
        count: number of replicas.
        cpu: CPUs of each.
        gpu: GPUs of each.
        memMB: memory of each in MB.
        mounts: what each sees of its host, in the form of `parse_mounts`.
        nproc_per_node: processes that torchrun starts in each; None for one without torchrun.
    """

    count: int = 1
    cpu: float = 2
    gpu: int = 0
    memMB: int = 1024  # noqa: N815 - TorchX's name
    mounts: Sequence[str] = ()
    nproc_per_node: int | None = None

    @property
    def resource(self) -> Resource:
        """What each replica has; a part of a CPU, too, which no component takes."""
        return resource(cpu=self.cpu, gpu=self.gpu, memMB=self.memMB)


def app_of_function(
    source: FunctionSource,
    call_env: Mapping[str, str],
    replicas: Replicas,
    *,
    workspace: str | Mapping[str, str] | None,
    python: str,
) -> AppDef:
    """Return an app of one role without an image, all replicas of which call a function.

    Its text becomes a part of the workspace, and so of an image that is built once for the same
    text; the arguments stay outside of it.

    Args:
        source: the function.
        call_env: what it is called with, from `Call.env`.
        replicas: how many call it, and what each has.
        workspace: further code, which the function can import.
        python: command that starts Python in the image.

    Raises:
        WorkspaceError: the workspace names no sources.
        InvalidAppError: a mount is wrong.
    """
    role = _plain(source, replicas, python)
    if replicas.nproc_per_node is not None:
        role = _under_torchrun(source, replicas, replicas.nproc_per_node)
    threads = max(1, int(replicas.cpu // (replicas.nproc_per_node or 1)))
    env = {
        "PYTHONUNBUFFERED": "1",
        # By default PyTorch starts as many threads as the host has CPUs, whatever it may use.
        "OMP_NUM_THREADS": str(threads),
        **role.env,
        "TORCHX_REPLICA_IDX": macros.replica_id,
        "TORCHX_NUM_REPLICAS": str(replicas.count),
        **call_env,
    }
    parts = {**dict(parse_workspace(workspace)), **_files(source)}
    return AppDef(source.name, [replace(role, env=env, workspace=Workspace(parts))])


def _plain(source: FunctionSource, replicas: Replicas, python: str) -> Role:
    return Role(
        source.name,
        "",
        entrypoint=python,
        args=[_RUNNER],
        num_replicas=replicas.count,
        resource=replicas.resource,
        mounts=parse_mounts([*replicas.mounts]),
    )


def _under_torchrun(source: FunctionSource, replicas: Replicas, processes: int) -> Role:
    app = dist.ddp(
        script=_RUNNER,
        name=source.name,
        j=f"{replicas.count}x{processes}",
        mounts=[*replicas.mounts],
        # c10d gives ranks out as nodes arrive; here rank 0 is in replica 0, whose result counts.
        rdzv_backend="static" if replicas.count > 1 else "c10d",
    )
    return replace(app.roles[0], name=source.name, resource=replicas.resource)


def _files(source: FunctionSource) -> dict[str, str]:
    runner = resources.files(__package__).joinpath("runner.py").read_text("utf-8")
    # The name is in the path: images are kept by sources and targets, so each function has its own.
    return {_inline(runner): _RUNNER, _inline(source.text): f"{FOLDER}/function-{source.name}.py"}


def _inline(text: str) -> str:
    return f"data:,{quote(text)}"
