"""The folder in which the replicas of an app keep their checkpoints."""

from __future__ import annotations

import hashlib
import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.specs import BindMount, VolumeMount

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.core.plan.options import Opts

#: The variable with the folder of an app.
CHECKPOINT_DIR: Final = "TORCHX_CHECKPOINT_DIR"
#: Where the volume or the host path is mounted.
ROOT: Final = "/torchx/checkpoints"

_VOLUME_PREFIX: Final = "airflow-torchx-checkpoint-"
_VOLUME_DIGITS: Final = 20
_RUNS: Final = "runs"
_READABLE: Final = 40
_DIGEST: Final = 12
_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9_-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoints:
    """Where the replicas of an app keep their checkpoints.

    Args:
        source: the volume, the path on the daemon's host, or a URL.
        scope: names of nested folders below the root, which only this scope has.
        interval_s: seconds between two uploads to a URL.
        used_by: labels of the task that uses the scope, with its run if only one does; empty
            outside a task.
    """

    source: str
    scope: tuple[str, ...]
    interval_s: float = 0.0
    used_by: Mapping[str, str] = field(default_factory=dict)

    @property
    def volume(self) -> str | None:
        """The volume; None if the source is a path. That of a URL belongs to one scope."""
        if is_storage(self.source):
            return cache_volume(self.source, posixpath.join(*self.scope))
        return None if self.source.startswith("/") else self.source

    @property
    def mount(self) -> BindMount | VolumeMount:
        """The mount of every replica."""
        if self.volume is None:
            return BindMount(src_path=self.source, dst_path=ROOT)
        return VolumeMount(src=self.volume, dst_path=ROOT)

    @property
    def folder(self) -> str:
        """The path of the app's folder in its replicas."""
        return posixpath.join(ROOT, *self.scope)

    @property
    def folders(self) -> tuple[str, ...]:
        """The paths of all folders below the root that the app needs, outer ones first."""
        return tuple(
            posixpath.join(ROOT, *self.scope[: depth + 1]) for depth in range(len(self.scope))
        )

    @property
    def labels(self) -> dict[str, str]:
        """The labels of each container."""
        interval = {labels.CHECKPOINT_INTERVAL: f"{self.interval_s:g}"}
        return {
            labels.CHECKPOINT: self.source,
            labels.CHECKPOINT_FOLDER: posixpath.join(*self.scope),
            **(interval if is_storage(self.source) else {}),
        }

    @property
    def volume_labels(self) -> dict[str, dict[str, str]]:
        """The labels of the volume, if Docker has to create it.

        Only the volume of a URL names its task, because others may use any other volume.
        """
        volume, own = self.volume, {labels.CHECKPOINT: self.source}
        if is_storage(self.source):
            own |= {labels.CHECKPOINT_FOLDER: posixpath.join(*self.scope), **self.used_by}
        return {} if volume is None else {volume: own}


def is_storage(source: str | None) -> bool:
    """Return whether checkpoints are in an object storage, and in a volume until an upload."""
    return source is not None and "://" in source


def cache_volume(url: str, folder: str) -> str:
    """Return the volume that holds the checkpoints of one folder below a URL on a daemon."""
    digest = hashlib.sha256(f"{url}\0{folder}".encode(errors="surrogatepass")).hexdigest()
    return f"{_VOLUME_PREFIX}{digest[:_VOLUME_DIGITS]}"


def is_of_one_run(folder: str) -> bool:
    """Return whether only the tries of one run use a folder, unlike with ``eager``."""
    return posixpath.basename(posixpath.dirname(folder)) == _RUNS


def checkpoints(
    opts: Opts, *, app_id: str, app_name: str, own: Mapping[str, str]
) -> Checkpoints | None:
    """Return where an app keeps its checkpoints; None if the option is not set.

    ``own`` are the labels of its launch. Those of a task make the scope: its DAG, task and map
    index, and unless the policy is ``eager``, its run and ``max_tries``. A retry does not raise
    ``max_tries``, and a clear does. Outside a task, the scope is the name of the app, and unless
    the policy is ``eager``, its id.
    """
    if opts.checkpoint is None:
        return None
    is_eager = opts.checkpoint_policy == "eager"
    where: tuple[str, ...]
    users = [
        labels.DAG_ID,
        labels.TASK_ID,
        labels.MAP_INDEX,
        *([] if is_eager else [labels.RUN_ID]),
    ]
    if labels.DAG_ID in own:
        task, index = own[labels.TASK_ID], own[labels.MAP_INDEX]
        task_part = _folder(f"{task}-{index}" if index != "-1" else task, task, index)
        run_id, tries = own[labels.RUN_ID], own[labels.MAX_TRIES]
        run = f"{_folder(run_id, run_id)}-m{tries}"
        where = ("tasks", _folder(own[labels.DAG_ID], own[labels.DAG_ID]), task_part)
    else:
        run = _folder(app_id, app_id)
        where = ("apps", _folder(app_name, app_name))
    last = ("all-runs",) if is_eager else (_RUNS, run)
    return Checkpoints(
        source=opts.checkpoint,
        scope=(*where, *last),
        interval_s=opts.checkpoint_interval_s,
        used_by={name: own[name] for name in users if name in own},
    )


def _folder(readable: str, *ids: str) -> str:
    """Return the name of a folder that only these ids have; it starts with readable text."""
    data = "\0".join(ids).encode(errors="surrogatepass")
    digest = hashlib.sha256(data).hexdigest()[:_DIGEST]
    start = _ILLEGAL.sub("-", readable)[:_READABLE].strip("-")
    return f"{start}-{digest}" if start else digest
