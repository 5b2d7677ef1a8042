"""Distributed training with PyTorch's own launcher, ``torchrun``."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from airflow_torchx.components.topology import Topology, on_host, topology
from airflow_torchx.errors import ComponentError
from airflow_torchx.specs import AppDef, Role, macros, parse_mounts, resource

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
    """Return an app of one role whose replicas are nodes, with ``torchrun`` on each.

    The nodes meet at replica 0. A single node meets itself, at a free port.

    Args:
        script_args: arguments of the script or module.
        script: script in the image to run; give it or ``m``.
        m: Python module to run, like ``my.module``.
        image: image with bash and PyTorch in it.
        name: ``experiment/run``, ``experiment/``, ``/run`` or ``run``; the run is also the app's
            name and is the script's or module's when it is left out.
        h: named resource of each node, like ``gpu.small``, instead of ``cpu``, ``gpu``, ``memMB``.
        cpu: CPUs of each node.
        gpu: GPUs of each node.
        memMB: memory of each node in MB.
        j: nodes and processes on each: ``nodes x processes`` without the blanks,
            ``min:max x processes`` for an elastic app, or a number alone: with ``h`` the nodes,
            each with a process for every GPU, else the processes of one node.
        env: environment variables of each node.
        metadata: metadata of the app.
        max_retries: how often the app is started again.
        rdzv_port: port on replica 0 where several nodes meet.
        rdzv_backend: how several nodes meet.
        rdzv_conf: settings of that, like ``join_timeout=600,close_timeout=600``.
        mounts: mounts, like ``type=bind,src=/on/host,dst=/in/container,readonly``; volumes and
            devices too.
        debug: set environment variables that make PyTorch explain itself.
        tee: what is copied to the console: 0 nothing, 1 stdout, 2 stderr, 3 both.

    Raises:
        ComponentError: neither or both of ``script`` and ``m`` are given, ``j`` has another form,
            or there is no such named resource.
        InvalidAppError: a mount is wrong.
    """
    program = _program(script, m)
    nodes = topology(on_host(h, j) if h is not None and j.isdigit() else j)
    experiment, run = _names(name, program.name)
    tracking = {
        "TORCHX_TRACKING_EXPERIMENT_NAME": experiment,
        "TORCHX_TRACKING_RUN_NAME": run,
    }
    log_level = {"LOGLEVEL": os.environ.get("LOGLEVEL", "WARNING")}
    rendezvous = ["--rdzv_backend", rdzv_backend]
    if rdzv_conf is not None:
        rendezvous += ["--rdzv_conf", rdzv_conf]
    launch = ["--rdzv_id", macros.app_id, "--nnodes", nodes.text]
    launch += ["--nproc_per_node", str(nodes.processes), "--tee", str(tee), "--role", ""]
    if rdzv_backend == "static":
        launch += ["--node_rank", macros.replica_id]
    words = [*launch, *program.words, *script_args]
    # The endpoint stays out of the quotes: the shell in the container fills it in.
    endpoint = f"--rdzv_endpoint {_endpoint(nodes, rdzv_port)}"
    role = Role(
        name=program.name,
        image=image,
        min_replicas=nodes.least,
        entrypoint="bash",
        num_replicas=nodes.most,
        resource=resource(cpu=cpu, gpu=gpu, memMB=memMB, h=h),
        args=["-c", f"torchrun {shlex.join(rendezvous)} {endpoint} {shlex.join(words)}"],
        env=log_level | (env or {}) | tracking | (_DEBUG_ENV if debug else {}),
        port_map={"c10d": rdzv_port},
        max_retries=max_retries,
        mounts=parse_mounts(mounts or []),
    )
    return AppDef(name=run, roles=[role], metadata=metadata or {})


def ddp(  # noqa: PLR0913 - TorchX's signature
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
    """Return the app of `torchrun`; a number alone as ``j`` is always the processes of one node.

    Args:
        script_args: arguments of the script or module.
        script: script in the image to run; give it or ``m``.
        m: Python module to run, like ``my.module``.
        image: image with bash and PyTorch in it.
        name: ``experiment/run``, ``experiment/``, ``/run`` or ``run``; the run is also the app's
            name and is the script's or module's when it is left out.
        h: named resource of each node, like ``gpu.small``, instead of ``cpu``, ``gpu``, ``memMB``.
        cpu: CPUs of each node.
        gpu: GPUs of each node.
        memMB: memory of each node in MB.
        j: nodes and processes on each: ``nodes x processes`` without the blanks,
            ``min:max x processes`` for an elastic app, or the processes of one node.
        env: environment variables of each node.
        metadata: metadata of the app.
        max_retries: how often the app is started again.
        rdzv_port: port on replica 0 where several nodes meet.
        rdzv_backend: how several nodes meet.
        rdzv_conf: settings of that, like ``join_timeout=600,close_timeout=600``.
        mounts: mounts, like ``type=bind,src=/on/host,dst=/in/container,readonly``; volumes and
            devices too.
        debug: set environment variables that make PyTorch explain itself.
        tee: what is copied to the console: 0 nothing, 1 stdout, 2 stderr, 3 both.

    Raises:
        ComponentError, InvalidAppError: as `torchrun` does.
    """
    return torchrun(
        *script_args,
        script=script,
        m=m,
        image=image,
        name=name,
        h=h,
        cpu=cpu,
        gpu=gpu,
        memMB=memMB,
        j=f"1x{j}" if j.isdigit() else j,
        env=env,
        metadata=metadata,
        max_retries=max_retries,
        rdzv_port=rdzv_port,
        rdzv_backend=rdzv_backend,
        rdzv_conf=rdzv_conf,
        mounts=mounts,
        debug=debug,
        tee=tee,
    )


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
    """Return the app of `torchrun` on nodes that a named resource describes.

    Args:
        args: arguments of the script or module.
        script: script in the image to run; give it or ``m``.
        m: Python module to run, like ``my.module``.
        image: image with bash and PyTorch in it.
        name: ``experiment/run``, ``experiment/``, ``/run`` or ``run``; the run is also the app's
            name and is the script's or module's when it is left out.
        h: named resource of each node.
        j: nodes and processes on each, ``nodes x processes`` without the blanks, or the nodes,
            each with a process for every GPU.
        env: environment variables of each node.
        metadata: metadata of the app.
        max_retries: how often the app is started again.
        mounts: mounts, like ``type=bind,src=/on/host,dst=/in/container,readonly``; volumes and
            devices too.
        debug: set environment variables that make PyTorch explain itself.

    Raises:
        ComponentError: as `torchrun` does; or ``j`` has only nodes, and ``h`` no GPUs.
        InvalidAppError: a mount is wrong.
    """
    return torchrun(
        *args,
        script=script,
        m=m,
        image=image,
        name=name,
        h=h,
        j=on_host(h, j),
        env=env,
        metadata=metadata,
        max_retries=max_retries,
        mounts=mounts,
        debug=debug,
    )


@dataclass(frozen=True, slots=True)
class _Program:
    """What torchrun runs, in its words, and the short name of it."""

    words: tuple[str, ...]
    name: str


def _program(script: str | None, m: str | None) -> _Program:
    if script and m is None:
        return _Program((script,), PurePath(script).stem)
    if m and script is None:
        return _Program(("-m", m), m.rpartition(".")[2])
    what = f"expected a script or a module, got script={script!r} and m={m!r}."
    raise ComponentError(what, fix="Give exactly one of script and m.")


def _endpoint(nodes: Topology, port: int) -> str:
    if nodes.most == 1:
        return "localhost:0"
    # The macro becomes the variable's name, and $$ the dollar in front of it.
    return f"$${{{macros.rank0_env}:=localhost}}:{port}"


def _names(name: str, program: str) -> tuple[str, str]:
    """Return the names of the experiment and of the run."""
    experiment, slash, run = name.partition("/")
    if not slash:
        experiment, run = "", name
    return experiment or "default-experiment", run or program
