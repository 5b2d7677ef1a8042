"""Small programs: to try a daemon out, and to glue the steps of a pipeline together."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

from airflow_torchx.errors import ComponentError
from airflow_torchx.specs import NONE, AppDef, Resource, Role, parse_mounts, resource

if TYPE_CHECKING:
    from collections.abc import Sequence

_SMALL: Final = Resource(cpu=1, gpu=0, memMB=1024)


def echo(msg: str = "hello world", image: str = "", num_replicas: int = 1) -> AppDef:
    """Return an app whose replicas print a message.

    Args:
        msg: the message.
        image: image with ``echo`` in it.
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
    """Return an app that makes an empty file, or gives the file that is there the time of now.

    Args:
        file: path of the file in the container.
        image: image with ``touch`` in it.
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
    """Return an app whose replicas run a command by ``sh``, each word of it quoted.

    So the shell replaces no variable and no pattern in them; TorchX's macros are replaced.

    Args:
        args: the command and its arguments.
        image: image with ``sh`` in it.
        num_replicas: number of replicas.
        cpu: CPUs of each replica.
        gpu: GPUs of each replica.
        memMB: memory of each replica in MB.
        h: named resource of each replica, instead of ``cpu``, ``gpu`` and ``memMB``.
        env: environment variables of each replica.
        max_retries: how often a failed app is started again.
        mounts: mounts, like ``type=bind,src=/on/host,dst=/in/container,readonly``; volumes and
            devices too.
        entrypoint: program instead of ``sh``, which gets the quoted words as its arguments.

    Raises:
        ComponentError: there is no such named resource.
        InvalidAppError: a mount is wrong.
    """
    words = [shlex.quote(word) for word in args]
    role = Role(
        name="sh",
        image=image,
        entrypoint="sh" if entrypoint is None else entrypoint,
        args=["-c", " ".join(words)] if entrypoint is None else words,
        num_replicas=num_replicas,
        resource=resource(cpu=cpu, gpu=gpu, memMB=memMB, h=h),
        env={"LOGLEVEL": os.environ.get("LOGLEVEL", "WARNING")} | (env or {}),
        max_retries=max_retries,
        mounts=parse_mounts(mounts or []),
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
    """Return an app whose replicas run Python.

    Args:
        args: arguments of the program.
        m: module to run, like ``my.module``; give exactly one of ``m``, ``c`` and ``script``.
        c: text of the program.
        script: script in the image to run.
        image: image with ``python`` in it.
        name: name of the app.
        cpu: CPUs of each replica.
        gpu: GPUs of each replica.
        memMB: memory of each replica in MB.
        h: named resource of each replica, instead of ``cpu``, ``gpu`` and ``memMB``.
        num_replicas: number of replicas.
        mounts: mounts, like ``type=bind,src=/on/host,dst=/in/container,readonly``; volumes and
            devices too.

    Raises:
        ComponentError: not exactly one of ``m``, ``c`` and ``script`` is given, or there is no such
            named resource.
        InvalidAppError: a mount is wrong.
    """
    role = Role(
        name="python",
        image=image,
        entrypoint="python",
        num_replicas=num_replicas,
        resource=resource(cpu=cpu, gpu=gpu, memMB=memMB, h=h),
        args=[*_program(m, c, script), *args],
        # TorchX sets it, for programs that use Hydra's decorator.
        env={"HYDRA_MAIN_MODULE": m} if m else {},
        mounts=parse_mounts(mounts or []),
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
    """Return an app whose replicas run a program; its image has to be given to the task.

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
        ComponentError: there is no such named resource.
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
    """Return an app that copies one file between storages that fsspec knows.

    Args:
        src: path or URL of the file.
        dst: path or URL of the copy.
        image: image with TorchX in it, and fsspec's packages for the storages.
        mounts: mounts, like ``type=bind,src=/on/host,dst=/in/container,readonly``; volumes and
            devices too.

    Raises:
        InvalidAppError: a mount is wrong.
    """
    words = ["--src", src, "--dst", dst]
    return _torchx_program("copy", words, image, mounts or [])


def booth(
    x1: float,
    x2: float,
    trial_idx: int = 0,
    tracker_base: str = "/tmp/torchx-util-booth",  # noqa: S108 - TorchX's default, in a container
    image: str = "",
) -> AppDef:
    """Return an app that evaluates Booth's function, an example for hyperparameter search.

    Args:
        x1: first coordinate.
        x2: second coordinate.
        trial_idx: number of the trial, under which TorchX's tracker keeps the result.
        tracker_base: path or URL of the folder where it keeps results.
        image: image with TorchX in it.
    """
    words = ["--x1", str(x1), "--x2", str(x2)]
    words += ["--trial_idx", str(trial_idx), "--tracker_base", tracker_base]
    return _torchx_program("booth", words, image, [])


def _program(m: str | None, c: str | None, script: str | None) -> list[str]:
    ways: list[tuple[list[str], str | None]] = [([], script), (["-m"], m), (["-c"], c)]
    given = [[*option, text] for option, text in ways if text is not None]
    if len(given) == 1 and given[0][-1]:
        return given[0]
    what = f"expected a module, a text or a script, got m={m!r}, c={c!r} and script={script!r}."
    raise ComponentError(what, fix="Give exactly one of m, c and script.")


def _torchx_program(name: str, words: Sequence[str], image: str, mounts: list[str]) -> AppDef:
    role = Role(
        name=f"torchx-utils-{name}",
        image=image,
        entrypoint="python",
        args=["-m", f"torchx.apps.utils.{name}_main", *words],
        resource=_SMALL,
        mounts=parse_mounts(mounts),
    )
    return AppDef(role.name, [role])
