"""Configuration and state of a fake daemon."""

from __future__ import annotations

import secrets
import time
from dataclasses import InitVar, dataclass, field, replace
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine.containers import NVIDIA_GPU, EngineInfo
from airflow_torchx.testing.calls import Calls
from airflow_torchx.testing.containers import FakeContainers
from airflow_torchx.testing.image_verbs import FakeImageVerbs
from airflow_torchx.testing.images import FakeImages
from airflow_torchx.testing.networks import FakeNetworks
from airflow_torchx.testing.output import NS_PER_S, to_datetime
from airflow_torchx.testing.program import Program, Programs
from airflow_torchx.testing.volumes import FakeVolumes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_torchx.core.engine.images import ImageDetail
    from airflow_torchx.testing.faults import Verb
    from airflow_torchx.testing.image_verbs import Builder

_INFO: Final = EngineInfo(
    id="",
    url="fake://engine",
    host="fake",
    is_local=True,
    version="20.10.24",
    api_version="1.41",
    os="Debian GNU/Linux 12 (bookworm)",
    cpus=64,
    memory_bytes=256 * 1024**3,
    runtimes=("runc",),
)


def new_info() -> EngineInfo:
    """Return the facts of one more daemon; what a process knows of a daemon, it knows by the id."""
    return replace(_INFO, id=f"FAKE:{secrets.token_hex(8)}")


@dataclass(kw_only=True, eq=False)
class FakeDaemon:
    """Configuration and state of a `FakeEngine`, which documents the arguments."""

    images: InitVar[Iterable[str]] = ()
    image_details: InitVar[Mapping[str, ImageDetail] | None] = None
    pullable: Iterable[str] = ()
    published: set[str] = field(default_factory=set)
    builds: Builder | None = None
    programs: Programs = field(default_factory=Program)
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    engine_info: EngineInfo = field(default_factory=new_info)
    gpus: InitVar[int | Sequence[str]] = 0
    reports_gpus: InitVar[bool] = True
    proxy_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    unique_networks: bool = True
    chunk_bytes: int = 4096
    before: Callable[[Verb, str], object] | None = None
    #: The verbs of all calls in order; on a real daemon, each would be a request.
    calls: list[Verb] = field(default_factory=list, init=False)
    closed: bool = field(default=False, init=False)

    def __post_init__(
        self,
        images: Iterable[str],
        image_details: Mapping[str, ImageDetail] | None,
        gpus: int | Sequence[str],
        reports_gpus: bool,
    ) -> None:
        ids = _gpu_ids(gpus)
        self._has_gpus = bool(ids)
        if ids and reports_gpus:
            self.engine_info = replace(
                self.engine_info, gpu_ids=ids, gpus_are_indexed=True, gpu_kind=NVIDIA_GPU
            )
        self._containers = FakeContainers()
        self._calls = Calls(self._containers, self.calls, self._on_call, self._now_ns)
        self._networks = FakeNetworks.built_in(to_datetime(self._now_ns()))
        self._volumes = FakeVolumes()
        self._images = FakeImages(self.pullable, self.published, self.clock() // 1)
        for ref in images:
            self._images.preload(ref)
        for ref, detail in (image_details or {}).items():
            self._images.preload(ref, detail)
        self._image_verbs = FakeImageVerbs(
            calls=self._calls,
            store=self._images,
            containers=self._containers,
            builder=lambda: self.builds,
        )

    def share(self, *, images: FakeImages, networks: FakeNetworks, volumes: FakeVolumes) -> None:
        """Use the images, networks and volumes of another daemon."""
        self._images, self._networks, self._volumes = images, networks, volumes

    def _on_call(self, verb: Verb, name: str) -> None:
        if self.before is not None:
            self.before(verb, name)

    def _now_ns(self) -> int:
        return round(self.clock() * NS_PER_S)

    @property
    def _has_gpu_driver(self) -> bool:
        return self._has_gpus or bool(self.engine_info.gpu_ids)


def _gpu_ids(gpus: object) -> tuple[str, ...]:
    if isinstance(gpus, int) and not isinstance(gpus, bool) and gpus >= 0:
        return tuple(f"GPU-{index}" for index in range(gpus))
    ids = tuple(gpus) if isinstance(gpus, list | tuple) else ("",)
    if not all(isinstance(one, str) and one for one in ids) or len(set(ids)) < len(ids):
        what = (
            f"expected a number of GPUs, 0 or more, or a list of different ids, got gpus={gpus!r}"
        )
        raise ValueError(what)
    return ids
