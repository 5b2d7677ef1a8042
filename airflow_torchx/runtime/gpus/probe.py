"""Finds the GPUs of a daemon that does not report them, from inside a container."""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerSpec, GpuRequest, LogQuery
from airflow_torchx.core.gpu.demand import PREFIX, without_volumes
from airflow_torchx.core.gpu.ids import parse_nvidia_smi
from airflow_torchx.core.logs.lines import LineReader
from airflow_torchx.core.plan.gpu_problems import NO_GPU_DRIVER
from airflow_torchx.errors import EngineError, EngineUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_torchx.core.engine.protocol import Engine

# The first call of nvidia-smi after a boot may load the driver.
_TIMEOUT_S: Final = 30.0
_PAUSE_S: Final = 0.05
_PREFIX: Final = f"{PREFIX}probe-"
#: A probe of this age has no client any more.
_LEFT_AFTER: Final = timedelta(minutes=1)
_LOCK: Final = threading.Lock()
_FOUND: Final[dict[str, Mapping[str, str]]] = {}
_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})


class NoGpuDriver(Exception):  # noqa: N818 - no error of a user
    """A daemon has no driver for GPUs; the message is the daemon's."""


def probed(
    engine: Engine,
    daemon_id: str,
    image: str,
    *,
    owner: Mapping[str, str] = _NO_LABELS,
    should_stop: Callable[[], bool] = lambda: False,
) -> Mapping[str, str]:
    """Return id to model of each GPU that a container of an image sees; empty if it sees none.

    A container with all GPUs runs ``nvidia-smi -L``, which NVIDIA's runtime adds to any image, and
    is removed. What was found is kept for the daemon while this process lives. ``owner`` has labels
    for that container.

    Raises:
        EngineUnreachableError: the daemon does not answer.
        NoGpuDriver: no container of the daemon can have GPUs.
        StopRequested: ``should_stop`` returned True.
    """
    with _LOCK:
        if daemon_id not in _FOUND:
            found = _probe(engine, image, owner, should_stop)
            if not found:
                return {}
            _FOUND[daemon_id] = found
        return _FOUND[daemon_id]


def _probe(
    engine: Engine, image: str, owner: Mapping[str, str], should_stop: Callable[[], bool]
) -> dict[str, str]:
    try:
        detail = engine.images.inspect(image)
        container_id = engine.create(_spec(image, owner, detail.volumes if detail else ()))
    except EngineUnreachableError:
        raise
    except EngineError:
        return {}
    try:
        _sweep(engine, container_id)
        engine.start(container_id)
        return parse_nvidia_smi(_output(engine, container_id, should_stop))
    except EngineUnreachableError:
        raise
    except EngineError as error:
        if found := re.search(f"({NO_GPU_DRIVER}).*", error.what):
            raise NoGpuDriver(found[0].rstrip(".")) from error
        return {}  # an image without nvidia-smi
    finally:
        with contextlib.suppress(EngineError):
            engine.remove(container_id)


def _spec(image: str, owner: Mapping[str, str], volumes: Sequence[str]) -> ContainerSpec:
    return ContainerSpec(
        role="",
        replica=0,
        name=f"{_PREFIX}{secrets.token_hex(6)}",
        image=image,
        entrypoint="nvidia-smi",
        args=("-L",),
        # An image may leave nvidia-smi out.
        env={"NVIDIA_DRIVER_CAPABILITIES": "utility"},
        labels={**owner, labels.GPU_MARKER: "probe", labels.GPUS: ""},
        network="none",
        gpus=GpuRequest(count=-1),
        host=without_volumes(volumes),
    )


def _sweep(engine: Engine, own_id: str) -> None:
    """Remove the probes of clients that were killed."""
    with contextlib.suppress(EngineError):
        rows = engine.rows({labels.GPU_MARKER: "probe"})
        probes = {row.id: row.created_at for row in rows if row.name.startswith(_PREFIX)}
        for one, created_at in probes.items():
            # By the daemon's time: the clocks of its clients may differ.
            if probes[own_id] > created_at + _LEFT_AFTER:
                engine.remove(one)


def _output(engine: Engine, container_id: str, should_stop: Callable[[], bool]) -> str:
    """Return what a container has written when it has ended; empty if it does not end in time."""
    deadline = time.monotonic() + _TIMEOUT_S
    while (seen := engine.inspect(container_id)) is not None and seen.state == "running":
        if should_stop():
            raise StopRequested
        if time.monotonic() > deadline:
            return ""
        time.sleep(_PAUSE_S)
    reader = LineReader()
    with contextlib.closing(engine.logs(container_id, LogQuery(streams="stdout"))) as log:
        lines = [line.text for chunk in log for line in reader.feed(chunk)]
    return "\n".join([*lines, *(line.text for line in reader.flush())])
