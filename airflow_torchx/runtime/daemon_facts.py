"""Collects the facts about a daemon and its host that matter for one app."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_torchx.core.engine.image_refs import is_image
from airflow_torchx.core.gpu.ids import GpuIds, unlisted, used_ids
from airflow_torchx.core.plan.conflicts import joined
from airflow_torchx.core.plan.preflight import DaemonFacts
from airflow_torchx.specs import BindMount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.engine.containers import ContainerDetail
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.specs import AppDef


def collect(engine: Engine, app: AppDef, opts: Opts, gpu_ids: Sequence[str] = ()) -> DaemonFacts:
    """Return the facts that a launch of this app needs; change nothing.

    It makes one request for the daemon, and one for each image and each container that it joins.
    ``gpu_ids`` are the GPUs to use, in place of all that the daemon reports.
    """
    info = engine.info()
    reported = GpuIds(info.gpu_ids, info.gpus_are_indexed)
    sources = {
        mount.src_path
        for role in app.roles
        for mount in role.mounts
        if isinstance(mount, BindMount)
    }
    if opts.checkpoint is not None and opts.checkpoint.startswith("/"):
        sources.add(opts.checkpoint)
    names = dict.fromkeys(role.image for role in app.roles)
    return DaemonFacts(
        engine=replace(info, gpu_ids=used_ids(gpu_ids, reported)),
        reported_gpus=reported.ids,
        unlisted_gpus=unlisted(gpu_ids, reported),
        images={name: engine.images.inspect(name) for name in filter(is_image, names)},
        absent_paths=frozenset(filter(_is_absent, sources if info.is_local else ())),
        not_running=frozenset(
            name for name in joined(opts).values() if not _is_running(engine.inspect(name))
        ),
    )


def _is_running(container: ContainerDetail | None) -> bool:
    return container is not None and container.state in ("running", "paused")


def _is_absent(path: str) -> bool:
    try:
        return not Path(path).exists()
    except PermissionError:
        return False  # the daemon may have access that this user does not have
    except OSError:
        return True
