"""Builds the app that runs a function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from airflow_torchx.components import dist
from airflow_torchx.core.workspace.recipe import FUNCTION_RUNNER
from airflow_torchx.core.workspace.source import parse_workspace
from airflow_torchx.specs import (
    AppDef,
    Resource,
    Role,
    Workspace,
    parse_mounts,
    resource,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import PurePath

    from airflow_torchx.function.source import FunctionSource

#: Workspace folder for the function and its runner.
FOLDER: Final = ".airflow-torchx"


@dataclass(frozen=True, kw_only=True)
class Replicas:
    """Describes the replicas that run a function; all sizes are those of one replica."""

    count: int = 1
    cpu: float = 2
    gpu: int = 0
    memMB: int = 1024  # noqa: N815 - TorchX's name
    mounts: Sequence[str] | str = ()
    #: Processes of torchrun; None for one process without it.
    nproc_per_node: int | None = None

    @property
    def resource(self) -> Resource:
        """Return the resource of each replica; unlike in components, CPUs may be fractional."""
        return resource(cpu=self.cpu, gpu=self.gpu, memMB=self.memMB)


def app_of_function(
    source: FunctionSource,
    call_env: Mapping[str, str],
    replicas: Replicas,
    *,
    workspace: str | PurePath | Mapping[str, str] | None,
    python: str,
) -> AppDef:
    """Return an app with one role, without an image, whose replicas call a function.

    The function's source becomes part of the workspace, so its image is built once per source.
    Arguments are passed in the environment, from `Call.env`, and do not affect the image.

    The function can import further code from the workspace. ``python`` is the command that starts
    Python in the image.

    Raises:
        WorkspaceError: the workspace is invalid.
        InvalidAppError: a mount is invalid.
    """
    role = _plain_role(source, replicas, python)
    if replicas.nproc_per_node is not None:
        role = _torchrun_role(source, replicas, replicas.nproc_per_node)
    threads = max(1, int(replicas.cpu // (replicas.nproc_per_node or 1)))
    env = {
        "PYTHONUNBUFFERED": "1",
        # By default PyTorch starts a thread per CPU of the host and ignores the container's limit.
        "OMP_NUM_THREADS": str(threads),
        **role.env,
        **call_env,
    }
    parts = {**dict(parse_workspace(workspace)), **_files(source)}
    return AppDef(source.name, [replace(role, env=env, workspace=Workspace(parts))])


def _plain_role(source: FunctionSource, replicas: Replicas, python: str) -> Role:
    return Role(
        source.name,
        "",
        entrypoint=python,
        args=[FUNCTION_RUNNER],
        num_replicas=replicas.count,
        resource=replicas.resource,
        mounts=parse_mounts(replicas.mounts),
    )


def _torchrun_role(source: FunctionSource, replicas: Replicas, processes: int) -> Role:
    app = dist.ddp(
        script=FUNCTION_RUNNER,
        name=source.name,
        gpu=replicas.gpu,
        j=f"{replicas.count}x{processes}",
        # c10d assigns ranks in order of arrival, but replica 0 must have rank 0, with the result.
        rdzv_backend="static" if replicas.count > 1 else "c10d",
    )
    mounts = parse_mounts(replicas.mounts)
    return replace(app.roles[0], name=source.name, resource=replicas.resource, mounts=mounts)


def _files(source: FunctionSource) -> dict[str, str]:
    runner = resources.files(__package__).joinpath("runner.py").read_text("utf-8")
    # The name in the path gives each function an image of its own.
    function = f"{FOLDER}/function-{source.name}.py"
    return {_inline(runner): FUNCTION_RUNNER, _inline(source.text): function}


def _inline(text: str) -> str:
    return f"data:,{quote(text)}"
