"""What an app asks of the GPUs of a daemon."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerSpec, HostOptions
from airflow_torchx.core.gpu.ids import ALL, GpuIds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_torchx.core.plan.job_plan import JobPlan

Marker = Literal["lock", "ticket", "claim", "probe"]

PREFIX: Final = "airflow-torchx-gpu-"
#: End of the name of a ticket whose app is asked whether it still waits. Each question has another
#: token, so that a client that missed an answer does not take two questions for one.
_QUESTION: Final = re.compile(r"\.asked-[0-9a-f]+$")
#: The fields that JSON stores as lists.
_LISTS: Final = ("listed", "reported", "volumes")
#: The types of the others in JSON, in which a boolean is not a number.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "key": (str,),
    "count": (int,),
    "image": (str,),
    "respects_foreign": (bool,),
    "is_indexed": (bool,),
    "since_s": (int, float, NoneType),
    "until_s": (int, float, NoneType),
    "wait_timeout_s": (int, float, NoneType),
}
_TRY: Final = re.compile(r"-t\d+$")
_OF_TASK: Final = (
    labels.DAG_ID,
    labels.RUN_ID,
    labels.TASK_ID,
    labels.MAP_INDEX,
    labels.MAX_TRIES,
    labels.TRY_NUMBER,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuDemand:
    """A number of GPUs that an app waits for as a whole.

    Args:
        key: names ticket and claim. Tries of a task share it until a clear, so that a retry takes
            over both.
        count: number of GPUs; all of them if the ids are unknown.
        listed: ids of the GPUs that it may have, in the order in which they are given away.
        image: an image that is on the daemon.
        respects_foreign: whether containers of other programs hold GPUs.
        reported: ids of the GPUs that the daemon reports; empty for the same.
        is_indexed: these are all GPUs of the daemon, in the order of their indices.
        labels: labels that identify the app and its task.
        since_s: when the app began to wait, in seconds since 1970; None if it did not yet.
        until_s: when a wait has lasted too long, in seconds since 1970; None for never.
        wait_timeout_s: how long that is, in seconds; None for no limit.
        volumes: paths of the volumes that the image declares.
    """

    key: str
    count: int
    listed: tuple[str, ...]
    image: str
    respects_foreign: bool = True
    reported: tuple[str, ...] = ()
    is_indexed: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    since_s: float | None = None
    until_s: float | None = None
    wait_timeout_s: float | None = None
    volumes: tuple[str, ...] = ()

    @classmethod
    def of(cls, plan: JobPlan, listed: Sequence[str], reported: GpuIds) -> Self | None:
        """Return what a plan demands; None if its replicas need no GPUs of their own."""
        if not (count := plan.own_gpus):
            return None
        is_task = labels.TRY_NUMBER in plan.containers[0].labels
        return cls(
            key=_TRY.sub("", plan.app_id) if is_task else plan.launch_id,
            count=count,
            listed=tuple(listed),
            reported=reported.ids,
            is_indexed=reported.is_indexed,
            image=plan.containers[0].image,
            respects_foreign=plan.gpu_foreign == "respect",
            labels=owner_labels(plan),
        )

    @property
    def gpus(self) -> GpuIds:
        """The GPUs of the daemon."""
        return GpuIds(self.reported or self.listed, self.is_indexed)

    @property
    def needs_all(self) -> bool:
        """Whether the ids are unknown: then one replica takes all GPUs."""
        return ALL in self.listed

    @property
    def claims(self) -> int:
        """The number of ids that it claims."""
        return 1 if self.needs_all else self.count

    def name(self, marker: Marker) -> str:
        """Return the name of the container of a marker."""
        return f"{PREFIX}{marker}" if marker == "lock" else f"{PREFIX}{marker}-{self.key}"

    def spec(
        self, marker: Marker, *, ids: Sequence[str] = (), timeout_s: float = 0
    ) -> ContainerSpec:
        """Return the container of a marker; it never starts."""
        return ContainerSpec(
            role="",
            replica=0,
            name=self.name(marker),
            image=self.image,
            entrypoint="true",
            args=(),
            env={},
            labels={
                **self.labels,
                labels.GPUS: ",".join(ids),
                labels.GPU_MARKER: marker,
                labels.GPU_COUNT: str(self.count),
                labels.GPU_AMONG: ",".join(self.listed),
                labels.GPU_FOREIGN: "respect" if self.respects_foreign else "ignore",
                labels.GPU_TIMEOUT: f"{timeout_s:g}",
            },
            network="none",
            host=without_volumes(self.volumes),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the demand as JSON data."""
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return asdict(self) | lists | {"labels": dict(self.labels)}

    @classmethod
    def parse(cls, stored: object) -> Self | None:
        """Return a stored demand; None if it cannot be used."""
        if not isinstance(stored, Mapping):
            return None
        given = {name: stored[name] for name in cls.__dataclass_fields__ if name in stored}
        try:
            for name in _LISTS:
                given[name] = tuple(str(one) for one in given.get(name, ()))
            given["labels"] = {str(k): str(v) for k, v in dict(given.get("labels", {})).items()}
            are_right = all(type(given[name]) in _TYPES[name] for name in _TYPES.keys() & given)
            return cls(**given) if are_right else None
        except (KeyError, TypeError, ValueError):
            return None


def without_volumes(paths: Iterable[str]) -> HostOptions:
    """Return host options that cover the volumes of an image, for a container without files.

    At each create, Docker copies the files that the image has there to a new volume: 5.7 s for
    20,000 files (measured).
    """
    absolute = (posixpath.normpath(posixpath.join("/", one)) for one in paths)
    return HostOptions(tmpfs=dict.fromkeys(absolute, ""))


def asked_name(name: str, token: str) -> str:
    """Return the name of a ticket whose app is asked whether it still waits."""
    return f"{name}.asked-{token}"


def unasked_name(name: str) -> str:
    """Return the name that a ticket has while its app is not asked."""
    return _QUESTION.sub("", name)


def owner_labels(plan: JobPlan) -> dict[str, str]:
    """Return the labels by which a task finds what its launch left, and people who launched it."""
    given = plan.containers[0].labels
    own = {name: given[name] for name in _OF_TASK if name in given}
    return {**own, labels.GPU_APP: plan.app_id, labels.LAUNCH_ID: plan.launch_id}
