"""Finds the problems of an app with the GPUs of a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine.gpu_forms import is_only_cdi
from airflow_torchx.core.plan.gpu_id_values import are_mixed
from airflow_torchx.core.plan.job_plan import requested_gpus
from airflow_torchx.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_torchx.core.engine.containers import EngineInfo
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.core.plan.preflight import DaemonFacts
    from airflow_torchx.specs import AppDef

#: How this process can know the ids of a daemon's GPUs.
GPU_ID_SOURCES: Final = (
    "list the ids in node-generic-resources of the daemon.json on its host or in gpu_ids of an"
    " Airflow connection, or set up CDI (Docker 28.2)"
)
_LIST_IN_CDI: Final = "run `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` on its host"
_ENABLE_CDI: Final = f"enable CDI: upgrade the daemon to Docker 28.2, and {_LIST_IN_CDI}"
#: What to do if CDI of a daemon lists other GPUs.
ABSENT_FROM_CDI: Final = (
    f"correct gpu_ids of the connection, or let CDI of the daemon list all GPUs: {_LIST_IN_CDI}"
)
#: What to do if a daemon has no CDI, or no GPUs in it.
WITHOUT_CDI: Final = f"leave out gpu_driver=cdi, or {_ENABLE_CDI}"
#: What a daemon without a driver for GPUs answers: before Docker 29, and since.
NO_GPU_DRIVER: Final = "could not select device driver|failed to discover GPU vendor"
WITHOUT_GPU_DRIVER: Final = (
    "request no GPUs, or install the NVIDIA Container Toolkit on the daemon's host"
)
NO_GPUS_ON_PODMAN: Final = "is Podman, whose Docker API ignores requests for GPUs"


def gpu_problems(app: AppDef, opts: Opts, facts: DaemonFacts) -> Iterator[Problem]:
    """Yield the problems of an app with the GPUs of this daemon."""
    engine = facts.engine
    if not requested_gpus(app):
        return
    if engine.is_podman:
        what = f"{engine.url} {NO_GPUS_ON_PODMAN}"
        yield Problem("roles", what, "use a Docker Engine, or request no GPUs")
    elif opts.gpu_driver == "cdi" and not engine.has_cdi:
        what = f"CDI is not enabled on {engine.url} (Docker {engine.version})"
        yield Problem("options.gpu_driver", what, WITHOUT_CDI)
    elif not opts.auto_set_gpus:
        yield from _shared_shortage(app, len(facts.reported_gpus), engine.url)
    elif found := gpu_ids_problem(engine, facts.reported_gpus, facts.unlisted_gpus):
        yield found
    elif engine.gpu_ids:
        counts = [role.resource.gpu for role in app.roles for _ in range(role.num_replicas)]
        needs_ids = opts.gpu_driver == "cdi"
        yield from gpu_shortage(counts, len(engine.gpu_ids), engine.url, needs_ids=needs_ids)


def gpu_ids_problem(
    engine: EngineInfo, reported: Sequence[str], unlisted: Sequence[str]
) -> Problem | None:
    """Return why no app can get GPUs by the ids of a connection; None if apps can.

    Args:
        engine: the daemon, with the ids of the GPUs to use.
        reported: ids of all GPUs that the daemon reports.
        unlisted: GPUs to use that are not among those.
    """
    what = fix = ""
    if unlisted:
        what = f"{engine.url} has no GPU {', '.join(unlisted)}"
        fix = f"correct gpu_ids of the connection; the daemon has {', '.join(reported)}"
    elif are_mixed(engine.gpu_ids) and not reported:
        what = "indices and UUIDs may name the same GPU, and the daemon reports no ids"
        fix = "list all by UUID, as `nvidia-smi -L` prints them"
    elif not engine.has_cdi and (named := [*filter(is_only_cdi, engine.gpu_ids)]):
        what = f"only CDI knows {', '.join(named)}, and CDI is not enabled on {engine.url}"
        what += f" (Docker {engine.version})"
        fix = f"list UUIDs or indices (0) in gpu_ids of the connection, or {_ENABLE_CDI}"
    return Problem("gpu_ids", what, fix) if what else None


def no_gpu_driver(url: str, message: str) -> Problem:
    """Return the problem with a daemon that answers a request for GPUs with this message."""
    return Problem("roles", f"{url} has no driver for GPUs: {message}", WITHOUT_GPU_DRIVER)


def _shared_shortage(app: AppDef, known: int, url: str) -> Iterator[Problem]:
    """Yield a problem for each role whose replicas request more GPUs than a daemon has."""
    for index, role in enumerate(app.roles):
        if role.resource.gpu > known > 0:
            what = f"{role.resource.gpu} GPUs are more than the {known} of {url}"
            yield Problem(f"roles[{index}].resource.gpu", what, f"request at most {known}")


def gpu_shortage(
    counts: Sequence[int], known: int, url: str, *, needs_ids: bool = False
) -> Iterator[Problem]:
    """Yield a problem if replicas request more GPUs than a daemon has, or ones without ids.

    A request by count gives the first GPUs of the host to every container that makes one. So it is
    good enough for one replica only, unless it ``needs_ids``, as a request to CDI does.

    Args:
        counts: the number of GPUs that each replica requests; 0 or less for none.
        known: the number of GPUs of the daemon; 0 if their ids are unknown.
        url: the daemon.
        needs_ids: whether even one replica needs ids.
    """
    counts = [count for count in counts if count > 0]
    if sum(counts) > known > 0:
        who = "all replicas together request" if len(counts) > 1 else "the replica requests"
        can_share = max(counts) <= known and not needs_ids
        share = ", or share them between replicas with auto_set_gpus=False" if can_share else ""
        what = f"{who} {sum(counts)} GPUs, but {url} has {known}"
        yield Problem("roles", what, f"request at most {known}{share}")
    elif not known and (len(counts) > 1 or needs_ids):
        who = "one replica needs" if len(counts) == 1 else f"{len(counts)} replicas need"
        what = f"{who} GPUs by their ids, but the ids of the GPUs of {url} are"
        what += " unknown: the daemon reports none, and nvidia-smi does not run in the image"
        fix = (
            f"{GPU_ID_SOURCES}, use an image in which nvidia-smi runs, or share the first GPUs with"
            " auto_set_gpus=False"
        )
        yield Problem("roles", what, WITHOUT_CDI if needs_ids else fix)
