"""Provides components that run small programs."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

from airflow_torchx.errors import ComponentError, check_all
from airflow_torchx.specs import NONE, AppDef, Resource, Role, parse_mounts, resource

if TYPE_CHECKING:
    from collections.abc import Sequence

_SMALL: Final = Resource(cpu=1, gpu=0, memMB=1024)


def echo(msg: str = "hello world", image: str = "", num_replicas: int = 1) -> AppDef:
    """Print a message in each replica.

    Args:
        msg: the message.
        image: image that contains ``echo``.
        num_replicas: number of replicas.
    """
    role = Role(
        name="echo",
        image=image,
        entrypoint="echo",
        args=[msg],
        num_replicas=num_replicas,
        resource=_SMALL,
    )
    return AppDef("echo", [role])


def touch(file: str, image: str = "") -> AppDef:
    """Create an empty file, or update the modification time of an existing one.

    Args:
        file: path of the file in the container.
        image: image that contains ``touch``.
    """
    return AppDef("touch", [Role("touch", image, entrypoint="touch", args=[file], resource=_SMALL)])


def sh(  # noqa: PLR0913 - TorchX's signature
    *args: str,
    image: str = "",
    num_replicas: int = 1,
    cpu: int = 1,
    gpu: int = 0,
    memMB: int = 1024,  # noqa: N803 - TorchX's name
    h: str | None = None,
    env: dict[str, str] | None = None,
    max_retries: int = 0,
    mounts: list[str] | None = None,
    entrypoint: str | None = None,
) -> AppDef:
    """Run a command with ``sh`` in each replica; its arguments are quoted.

    The shell therefore expands no variables or patterns. TorchX's macros are substituted.

    Args:
        args: the command and its arguments.
        image: image that contains ``sh``.
        num_replicas: number of replicas.
        cpu: CPUs of each replica.
        gpu: GPUs of each replica.
        memMB: memory of each replica in MB.
        h: named resource of each replica, instead of ``cpu``, ``gpu`` and ``memMB``.
        env: environment variables of each replica.
        max_retries: how often the app restarts after a failure.
        mounts: bind mounts, volumes and devices, like
            ``type=bind,src=/on/host,dst=/in/container,readonly``.
        entrypoint: program to run instead of ``sh``; it gets the quoted arguments.

    Raises:
        ComponentError: the named resource is unknown.
        InvalidAppError: a mount is invalid.
    """
    node, role_mounts = check_all(
        lambda: resource(cpu=cpu, gpu=gpu, memMB=memMB, h=h), lambda: parse_mounts(mounts or [])
    )
    quoted = [shlex.quote(arg) for arg in args]
    role = Role(
        name="sh",
        image=image,
        entrypoint="sh" if entrypoint is None else entrypoint,
        args=["-c", " ".join(quoted)] if entrypoint is None else quoted,
        num_replicas=num_replicas,
        resource=node,
        env={"LOGLEVEL": os.environ.get("LOGLEVEL", "WARNING")} | (env or {}),
        max_retries=max_retries,
        mounts=role_mounts,
    )
    return AppDef("sh", [role])


def python(  # noqa: PLR0913 - TorchX's signature
    *args: str,
    m: str | None = None,
    c: str | None = None,
    script: str | None = None,
    image: str = "",
    name: str = "torchx_utils_python",
    cpu: int = 1,
    gpu: int = 0,
    memMB: int = 1024,  # noqa: N803 - TorchX's name
    h: str | None = None,
    num_replicas: int = 1,
    mounts: list[str] | None = None,
) -> AppDef:
    """Run Python in each replica.

    Args:
        args: arguments of the program.
        m: module to run, like ``my.module``; set exactly one of ``m``, ``c`` and ``script``.
        c: program text to run.
        script: script in the image to run.
        image: image that contains ``python``.
        name: name of the app.
        cpu: CPUs of each replica.
        gpu: GPUs of each replica.
        memMB: memory of each replica in MB.
        h: named resource of each replica, instead of ``cpu``, ``gpu`` and ``memMB``.
        num_replicas: number of replicas.
        mounts: bind mounts, volumes and devices, like
            ``type=bind,src=/on/host,dst=/in/container,readonly``.

    Raises:
        ComponentError: not exactly one of ``m``, ``c`` and ``script`` is set, or the named resource
            is unknown.
        InvalidAppError: a mount is invalid.
    """
    program, node, role_mounts = check_all(
        lambda: _program(m, c, script),
        lambda: resource(cpu=cpu, gpu=gpu, memMB=memMB, h=h),
        lambda: parse_mounts(mounts or []),
    )
    role = Role(
        name="python",
        image=image,
        entrypoint="python",
        num_replicas=num_replicas,
        resource=node,
        args=[*program, *args],
        # As in TorchX, for programs that use Hydra's decorator.
        env={"HYDRA_MAIN_MODULE": m} if m else {},
        mounts=role_mounts,
    )
    return AppDef(name, [role])


def binary(  # noqa: PLR0913 - TorchX's signature
    *args: str,
    entrypoint: str,
    name: str = "torchx_utils_binary",
    num_replicas: int = 1,
    cpu: int = 1,
    gpu: int = 0,
    memMB: int = 1024,  # noqa: N803 - TorchX's name
    h: str | None = None,
) -> AppDef:
    """Run a program in each replica; the task must set the image.

    Args:
        args: arguments of the program.
        entrypoint: the program.
        name: name of the app.
        num_replicas: number of replicas.
        cpu: CPUs of each replica.
        gpu: GPUs of each replica.
        memMB: memory of each replica in MB.
        h: named resource of each replica, instead of ``cpu``, ``gpu`` and ``memMB``.

    Raises:
        ComponentError: the named resource is unknown.
    """
    role = Role(
        name="binary",
        image=NONE,
        entrypoint=entrypoint,
        num_replicas=num_replicas,
        args=args,
        resource=resource(cpu=cpu, gpu=gpu, memMB=memMB, h=h),
    )
    return AppDef(name, [role])


def copy(src: str, dst: str, image: str = "", mounts: list[str] | None = None) -> AppDef:
    """Copy one file between storages that fsspec supports.

    Args:
        src: path or URL of the file.
        dst: path or URL of the copy.
        image: image that contains TorchX, and fsspec's packages for the two storages.
        mounts: bind mounts, volumes and devices, like
            ``type=bind,src=/on/host,dst=/in/container,readonly``.

    Raises:
        InvalidAppError: a mount is invalid.
    """
    args = ["--src", src, "--dst", dst]
    return _torchx_program("copy", args, image, mounts or [])


def booth(
    x1: float,
    x2: float,
    trial_idx: int = 0,
    tracker_base: str = "/tmp/torchx-util-booth",  # noqa: S108 - TorchX's default, in a container
    image: str = "",
) -> AppDef:
    """Evaluate Booth's function, an example for hyperparameter search.

    Args:
        x1: first coordinate.
        x2: second coordinate.
        trial_idx: number of the trial in TorchX's tracker.
        tracker_base: path or URL of the tracker's folder.
        image: image that contains TorchX.
    """
    args = ["--x1", str(x1), "--x2", str(x2)]
    args += ["--trial_idx", str(trial_idx), "--tracker_base", tracker_base]
    return _torchx_program("booth", args, image, [])


def _program(m: str | None, c: str | None, script: str | None) -> list[str]:
    programs: list[tuple[list[str], str | None]] = [([], script), (["-m"], m), (["-c"], c)]
    given = [[*option, text] for option, text in programs if text is not None]
    if len(given) == 1 and given[0][-1]:
        return given[0]
    what = f"expected one program, got m={m!r}, c={c!r} and script={script!r}"
    raise ComponentError(what, fix="Give exactly one of m, c and script.")


def _torchx_program(name: str, args: Sequence[str], image: str, mounts: list[str]) -> AppDef:
    role = Role(
        name=f"torchx-utils-{name}",
        image=image,
        entrypoint="python",
        args=["-m", f"torchx.apps.utils.{name}_main", *args],
        resource=_SMALL,
        mounts=parse_mounts(mounts),
    )
    return AppDef(role.name, [role])
