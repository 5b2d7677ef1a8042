"""Finds what a Docker Swarm cannot do for an app, before anything is created.

A manager takes a service with fields that it does not know, and drops them. So each such field is
refused here by its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.tmpfs import tmpfs_options
from airflow_torchx.core.plan.job_plan import DEVICE_PATHS
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.errors import Problem
from airflow_torchx.specs import DeviceMount, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.core.engine.containers import EngineInfo
    from airflow_torchx.specs import AppDef, Role

_NO_FIELD: Final = "a swarm has no field for it"
_ONE_DAEMON: Final = "or use a connection of one daemon"
_DEVICE_FIX: Final = f"set it up in the default runtime of each node, {_ONE_DAEMON}"
_OF_NODES: Final = "set it in daemon.json of each node instead"
_KEEPS_GPU_TASKS: Final = 23
#: What to do instead of each option.
_REFUSED: Final = {
    "privileged": f"name what the program needs in cap_add, {_ONE_DAEMON}",
    "ipc_mode": "the shared memory has the size of the role's memMB: set that",
    "runtime": f"{_OF_NODES}, as default-runtime",
    "security_opt": _OF_NODES,
    "gpu_driver": "leave it out: a swarm gives out generic resources",
}
#: These need files of a container, which is on a node.
_OF_ONE_DAEMON: Final = {
    "checkpoint": "mount a folder that all nodes share, as a bind mount",
    "checkpoint_signal": "let the program save when it gets SIGTERM, within stop_grace_s",
}
#: A manager answers that they do not exist. It has `bridge` and `host`.
_NETWORKS_OF_ONE_DAEMON: Final = frozenset({"none", "default"})

#: The run options that a swarm has; the others are refused, or have no effect without those.
SWARM_OPTIONS: Final = frozenset(Opts.__dataclass_fields__).difference(
    _REFUSED,
    _OF_ONE_DAEMON,
    ("checkpoint_interval_s", "checkpoint_policy", "checkpoint_before_timeout_s"),
    ("auto_set_gpus", "gpu_foreign"),
)


def swarm_problems(app: AppDef, opts: Opts, engine: EngineInfo) -> Iterator[Problem]:
    """Yield what a swarm cannot do for an app."""
    for name, fix in _REFUSED.items():
        if getattr(opts, name):
            yield Problem(f"options.{name}", _NO_FIELD, fix)
    for name, fix in _OF_ONE_DAEMON.items():
        if getattr(opts, name):
            yield Problem(f"options.{name}", "it needs the containers of one daemon", fix)
    yield from _tmpfs_problems(opts.tmpfs)
    if opts.network in _NETWORKS_OF_ONE_DAEMON or opts.network.startswith("container:"):
        what = f"{opts.network!r} is of one daemon"
        yield Problem("options.network", what, "name an overlay network, or host")
    if any(role.resource.gpu > 0 for role in app.roles):
        yield from _gpu_problems(opts, engine)
    for index, role in enumerate(app.roles):
        yield from _role_problems(f"roles[{index}]", role, opts)


def _gpu_problems(opts: Opts, engine: EngineInfo) -> Iterator[Problem]:
    if limit := gpu_limit(engine.version):
        yield Problem("roles", *limit)
    if not opts.auto_set_gpus:
        what, fix = "a swarm gives each GPU to one replica", "leave it out"
        yield Problem("options.auto_set_gpus", what, fix)


def gpu_limit(version: str) -> tuple[str, str] | None:
    """Return why managers of this version cannot run replicas with GPUs, and what to do.

    They take each one for a replica whose node has changed, and end it, when the node joins an
    overlay network, among others. Named resources are right since this version,
    https://github.com/moby/swarmkit/pull/3082.
    """
    major = version.partition(".")[0]
    if not major.isdecimal() or int(major) >= _KEEPS_GPU_TASKS:
        return None
    fix = f"upgrade them to {_KEEPS_GPU_TASKS}.0, see https://github.com/moby/moby/issues/44378"
    return f"managers with Docker Engine {version} end replicas that have GPUs", fix


def _tmpfs_problems(given: Any) -> Iterator[Problem]:  # noqa: ANN401 - any mapping
    for path, options in given.items():
        try:
            tmpfs_options(options)
        except ValueError as error:
            what = f"{_NO_FIELD}: {error}"
            yield Problem(f"options.tmpfs[{path!r}]", what, "use size= and mode= only")


def _role_problems(where: str, role: Role, opts: Opts) -> Iterator[Problem]:
    if role.workspace and not opts.image_repo:
        what = "its image must be in a registry, from which each node pulls it"
        fix = "set image_repo to a repository that all nodes reach"
        yield Problem(f"{where}.workspace", what, fix)
    if role.max_retries > 0 and role.retry_policy is RetryPolicy.REPLICA:
        what = "a swarm would start a second process of a replica whose node is away"
        fix = "use retry_policy=APPLICATION, or ROLE"
        yield Problem(f"{where}.retry_policy", what, fix)
    for position, mount in enumerate(role.mounts):
        if isinstance(mount, DeviceMount):
            yield Problem(f"{where}.mounts[{position}]", f"{_NO_FIELD}: a device", _DEVICE_FIX)
    for name, count in role.resource.devices.items():
        if count and name in DEVICE_PATHS:
            where_asked = f"{where}.resource.devices[{name!r}]"
            yield Problem(where_asked, f"{_NO_FIELD}: a device", _DEVICE_FIX)
