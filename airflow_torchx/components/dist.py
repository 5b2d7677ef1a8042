"""Provides components for distributed training with PyTorch's launcher, ``torchrun``."""

from __future__ import annotations

import functools
import logging
import os
import re
import shlex
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from airflow_torchx.errors import ComponentError, check_all
from airflow_torchx.specs import AppDef, Resource, Role, macros, parse_mounts, resource

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

P = ParamSpec("P")
#: Set while a component is called only to find mistakes, with values that the user did not give.
is_probe: Final = ContextVar("is_probe", default=False)
#: Forms of ``j``, the nodes and the processes on each.
_FORM: Final = re.compile(r"(?:(?:([0-9]+):)?([0-9]+)x)?([0-9]+)")
_FORM_ON_HOST: Final = re.compile(r"[0-9]+(?:x[0-9]+)?")
_DEBUG_ENV: Final = {
    "CUDA_LAUNCH_BLOCKING": "1",
    "NCCL_DESYNC_DEBUG": "1",
    "TORCH_DISTRIBUTED_DEBUG": "DETAIL",
    "TORCH_SHOW_CPP_STACKTRACES": "1",
}


def torchrun(  # noqa: PLR0913 - TorchX's signature
    *script_args: str,
    script: str | None = None,
    m: str | None = None,
    image: str = "",
    name: str = "/",
    h: str | None = None,
    cpu: int = 2,
    gpu: int = 0,
    memMB: int = 1024,  # noqa: N803 - TorchX's name
    j: str = "1x2",
    env: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    max_retries: int = 0,
    rdzv_port: int = 29500,
    rdzv_backend: str = "c10d",
    rdzv_conf: str | None = None,
    mounts: list[str] | None = None,
    debug: bool = False,
    tee: int = 3,
) -> AppDef:
    """Run a script or module under ``torchrun``, with one node per replica.

    Replica 0 is the rendezvous host. A single node uses a free port of its own. A warning is logged
    if the nodes have GPUs, but not one for each process.

    Args:
        script_args: arguments of the script or module.
        script: script in the image to run; set this or ``m``.
        m: Python module to run, like ``my.module``.
        image: image that contains bash and PyTorch.
        name: ``experiment/run``, ``experiment/``, ``/run`` or ``run``; the run names the app and
            defaults to the name of the script or module.
        h: named resource of each node, like ``gpu.small``, instead of ``cpu``, ``gpu``, ``memMB``.
        cpu: CPUs of each node.
        gpu: GPUs of each node.
        memMB: memory of each node in MB.
        j: ``<nodes>x<processes per node>``, ``<min>:<max>x<processes per node>`` for an elastic
            app, or one number: with ``h`` the nodes, with one process per GPU, else the processes
            of one node.
        env: environment variables of each node.
        metadata: metadata of the app.
        max_retries: how often the app restarts after a failure.
        rdzv_port: rendezvous port on replica 0, for several nodes.
        rdzv_backend: rendezvous backend for several nodes.
        rdzv_conf: settings of the backend, like ``join_timeout=600,close_timeout=600``.
        mounts: bind mounts, volumes and devices, like
            ``type=bind,src=/on/host,dst=/in/container,readonly``.
        debug: set PyTorch's debug environment variables.
        tee: output to copy to the console: 0 none, 1 stdout, 2 stderr, 3 both.

    Raises:
        ComponentError: neither or both of ``script`` and ``m`` are set, ``j`` has another form, or
            the named resource is unknown; it has all problems.
        InvalidAppError: a mount is invalid.
    """
    nodes: _Topology
    node: Resource
    (program, short_name), nodes, node, role_mounts = check_all(
        lambda: _program(script, m, *script_args),
        lambda: _nodes(j, h),
        lambda: resource(cpu=cpu, gpu=gpu, memMB=memMB, h=h),
        lambda: parse_mounts(mounts or []),
    )
    if (warning := _mismatch(nodes, node.gpu)) and not is_probe.get():
        _log.warning("%s", warning)
    experiment, run = _names(name, short_name)
    log_level = {"LOGLEVEL": os.environ.get("LOGLEVEL", "WARNING")}
    rendezvous = ["--rdzv_backend", rdzv_backend]
    if rdzv_conf is not None:
        rendezvous += ["--rdzv_conf", rdzv_conf]
    launch = ["--rdzv_id", macros.app_id, "--nnodes", nodes.nnodes]
    launch += ["--nproc_per_node", str(nodes.processes), "--tee", str(tee), "--role", ""]
    if rdzv_backend == "static":
        launch += ["--node_rank", macros.replica_id]
    args = [*launch, *program, *script_args]
    # The endpoint is not quoted, so that the container's shell expands it.
    endpoint = f"--rdzv_endpoint {_endpoint(nodes, rdzv_port)}"
    role = Role(
        name=short_name,
        image=image,
        min_replicas=nodes.min_nodes,
        entrypoint="bash",
        num_replicas=nodes.max_nodes,
        resource=node,
        args=["-c", f"torchrun {shlex.join(rendezvous)} {endpoint} {shlex.join(args)}"],
        env=log_level | (env or {}) | _tracking(experiment, run) | (_DEBUG_ENV if debug else {}),
        port_map={"c10d": rdzv_port},
        max_retries=max_retries,
        mounts=role_mounts,
    )
    return AppDef(name=run, roles=[role], metadata=metadata or {})


def _signature_of(
    function: Callable[P, AppDef],
) -> Callable[[Callable[..., AppDef]], Callable[P, AppDef]]:
    """Return a decorator that gives a component the signature of another one."""
    return functools.wraps(function, assigned=())


@_signature_of(torchrun)
def ddp(*script_args: str, j: str = "1x2", **options: Any) -> AppDef:  # noqa: ANN401 - torchrun's
    """Run a script or module like `torchrun`, with ``j=4`` as 4 processes on one node.

    Args:
        script_args: arguments of the script or module.
        j: ``<nodes>x<processes per node>``, ``<min>:<max>x<processes per node>`` for an elastic
            app, or the processes of one node.
        options: the other parameters of `torchrun`.

    Raises:
        ComponentError, InvalidAppError: as for `torchrun`.
    """
    return torchrun(*script_args, j=f"1x{j}" if j.isdigit() else j, **options)


def spmd(  # noqa: PLR0913 - TorchX's signature
    *args: str,
    script: str | None = None,
    m: str | None = None,
    image: str = "",
    name: str = "/",
    h: str = "gpu.small",
    j: str = "1x1",
    env: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    max_retries: int = 0,
    mounts: list[str] | None = None,
    debug: bool = False,
) -> AppDef:
    """Run a script or module like `torchrun`, on nodes of a named resource.

    Args:
        args: arguments of the script or module.
        script: script in the image to run; set this or ``m``.
        m: Python module to run, like ``my.module``.
        image: image that contains bash and PyTorch.
        name: ``experiment/run``, ``experiment/``, ``/run`` or ``run``; the run names the app and
            defaults to the name of the script or module.
        h: named resource of each node.
        j: ``<nodes>x<processes per node>``, or the nodes, with one process per GPU.
        env: environment variables of each node.
        metadata: metadata of the app.
        max_retries: how often the app restarts after a failure.
        mounts: bind mounts, volumes and devices, like
            ``type=bind,src=/on/host,dst=/in/container,readonly``.
        debug: set PyTorch's debug environment variables.

    Raises:
        ComponentError: as for `torchrun`, or ``j`` has no processes and ``h`` no GPU.
        InvalidAppError: a mount is invalid.
    """
    _, j, *_ = check_all(
        lambda: _program(script, m, *args),
        lambda: _on_host(h, j),
        lambda: resource(h=h),
        lambda: parse_mounts(mounts or []),
    )
    return torchrun(
        *args,
        script=script,
        m=m,
        image=image,
        name=name,
        h=h,
        j=j,
        env=env,
        metadata=metadata,
        max_retries=max_retries,
        mounts=mounts,
        debug=debug,
    )


@dataclass(frozen=True, slots=True)
class _Topology:
    """Holds the number of nodes and of processes on each."""

    min_nodes: int
    max_nodes: int
    processes: int
    #: The value of torchrun's ``--nnodes``.
    nnodes: str


def _topology(j: str) -> _Topology:
    """Return the topology of ``2x4``, ``1:2x4`` or ``4``, the latter being processes of one node.

    Raises:
        ComponentError: ``j`` has another form.
    """
    match = _FORM.fullmatch(j)
    if match is None:
        raise _malformed(j, "2x4, 1:2x4 or 4")
    least, most, processes = match.groups()
    most = most or "1"
    nnodes = f"{least}:{most}" if least else most
    return _Topology(int(least or most), int(most), int(processes), nnodes)


def _on_host(h: str, j: str) -> str:
    """Return ``j`` as ``nodes x processes``; without processes, it is one per GPU of ``h``.

    Raises:
        ComponentError: ``j`` has another form or omits the processes for a resource without GPUs,
            or the resource is unknown.
    """
    if not _FORM_ON_HOST.fullmatch(j):
        raise _malformed(j, "2x4 or 2")
    gpus = resource(h=h).gpu
    nodes, processes = map(int, (j if "x" in j else f"{j}x{gpus}").split("x"))
    if gpus < 1 and "x" not in j:
        what = f"j={j!r} starts one process per GPU, but {h!r} has no GPU"
        raise ComponentError(what, fix=f"Set the number of processes, like {nodes}x2.")
    return f"{nodes}x{processes}"


def _mismatch(nodes: _Topology, gpus: int) -> str | None:
    """Return a warning if a node has GPUs, but not one for each process; None if all is well."""
    if gpus < 1 or gpus == nodes.processes:
        return None
    what = f"processes and GPUs of each node differ: {nodes.processes} and {gpus}"
    return f"{what}; for one process per GPU, use {nodes.nnodes}x{gpus}"


def _malformed(j: str, forms: str) -> ComponentError:
    what = f"expected j like {forms}, got {j!r}"
    return ComponentError(what, fix="Write <nodes>x<processes on each node>.")


def _program(script: str | None, m: str | None, *rest: str) -> tuple[list[str], str]:
    """Return torchrun's arguments for the program, and the program's short name."""
    if script and m is None:
        return [script], PurePath(script).stem
    if m and script is None:
        return ["-m", m], m.rpartition(".")[2]
    what = f"expected a script or a module, got script={script!r} and m={m!r}"
    hint = f" Did you mean --script {rest[0]}?" if rest and rest[0].endswith(".py") else ""
    raise ComponentError(what, fix=f"Give exactly one of script and m.{hint}")


def _nodes(j: str, h: str | None) -> _Topology:
    return _topology(_on_host(h, j) if h is not None and j.isdigit() else j)


def _endpoint(nodes: _Topology, port: int) -> str:
    if nodes.max_nodes == 1:
        return "localhost:0"
    # After substitution: ${TORCHX_RANK0_HOST:=localhost}.
    return f"$${{{macros.rank0_env}:=localhost}}:{port}"


def _tracking(experiment: str, run: str) -> dict[str, str]:
    return {"TORCHX_TRACKING_EXPERIMENT_NAME": experiment, "TORCHX_TRACKING_RUN_NAME": run}


def _names(name: str, program: str) -> tuple[str, str]:
    """Return the names of the experiment and the run."""
    experiment, slash, run = name.partition("/")
    if not slash:
        experiment, run = "", name
    return experiment or "default-experiment", run or program
