"""Plans the containers of an app."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from itertools import islice
from typing import TYPE_CHECKING, Final

from airflow_torchx import __version__
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import (
    ContainerSpec,
    GpuRequest,
    PortBinding,
    has_own_address,
)
from airflow_torchx.core.plan.checkpoints import CHECKPOINT_DIR, Checkpoints, checkpoints
from airflow_torchx.core.plan.detached import detached_warning, restarted
from airflow_torchx.core.plan.failure_rule import label_of
from airflow_torchx.core.plan.identity import container_name
from airflow_torchx.core.plan.placement import placement_labels
from airflow_torchx.core.plan.progress import PROGRESS_FILE, PROGRESS_PATH, progress_labels
from airflow_torchx.core.plan.saving import checkpoint_labels, torchrun_env
from airflow_torchx.core.plan.stall import stall_env, stall_labels
from airflow_torchx.core.plan.trackers import tracker_env
from airflow_torchx.specs import BindMount, DeviceMount, RetryPolicy, VolumeMount, macros

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow_torchx.core.plan.option_kinds import GpuForeign, PullPolicy
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.specs import AppDef, Role

RANK0_HOST: Final = "TORCHX_RANK0_HOST"
IMAGE: Final = "TORCHX_IMAGE"
JOB_ID: Final = "TORCHX_JOB_ID"
REPLICA_IDX: Final = "TORCHX_REPLICA_IDX"
NUM_REPLICAS: Final = "TORCHX_NUM_REPLICAS"
#: Where torchrun, or a program that PyTorch's ``@record`` decorates, writes why it failed.
ERROR_FILE: Final = "TORCHELASTIC_ERROR_FILE"
ERROR_PATH: Final = "/tmp/torchelastic_error.json"  # noqa: S108 - a file of the container
#: The round of a replica, 0 at the launch, in apps that a failure restarts.
RESTART: Final = "TORCHX_RESTART"

#: Address of replica 0 where all replicas share those of one host.
_LOOPBACK: Final = IPv4Address("127.0.1.1")
#: Named devices of a Resource and their host devices, as in TorchX.
DEVICE_PATHS: Final = {
    "vpc.amazonaws.com/efa": "/dev/infiniband/uverbs",
    "aws.amazon.com/neurondevice": "/dev/neuron",
}


@dataclass(frozen=True, kw_only=True)
class LaunchContext:
    """Everything outside the app and its options that a plan depends on.

    Args:
        launch_id: random id of this launch.
        environ: environment of the launching process, for ``copy_env``.
        private_env: environment variables of every replica with secret values; only TorchX's own
            variables override them.
        labels: labels to add to every container.
        ambient_env: environment variables of every replica that describe the launching task; all
            but the proxies override them.
        proxy_env: environment variables of every replica with the HTTP proxies of the docker
            configuration; all others override them.
        is_waited_for: a process waits for the app until it ends. It carries out the failure policy,
            and restarts of the app and of roles.
        final_exit_codes: exit codes after which it does not.
        uploads: it also uploads checkpoints to object storage.
    """

    app_id: str
    handle: str
    launch_id: str
    environ: Mapping[str, str] = field(repr=False)
    private_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)
    ambient_env: Mapping[str, str] = field(default_factory=dict)
    proxy_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_waited_for: bool = True
    final_exit_codes: Sequence[int] = ()
    uploads: bool = False


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """Everything that a launch does.

    Args:
        containers: one per replica, by role and index.
        network: network to create if it is missing.
        secret_env: names of the environment variables whose values are not shown.
        warnings: what the user should know.
        workspaces: one line for the user about each workspace.
        folders: paths in the containers, of folders to create in a mount before the start.
        is_waited_for: a process waits for the app until it ends.
        gpu_foreign: whether GPUs that other programs use are respected; None if the replicas need
            no GPUs of their own.
    """

    app_id: str
    handle: str
    launch_id: str
    containers: tuple[ContainerSpec, ...]
    network: str
    pull_policy: PullPolicy
    secret_env: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()
    workspaces: tuple[str, ...] = ()
    gpu_foreign: GpuForeign | None = None
    folders: tuple[str, ...] = ()
    is_waited_for: bool = True

    @property
    def own_gpus(self) -> int:
        """The number of GPUs that no other app may use meanwhile."""
        requests = (spec.gpus for spec in self.containers if self.gpu_foreign is not None)
        return sum(request.count for request in requests if request)

    @property
    def shared_gpus(self) -> int:
        """The number of GPUs of the host that replicas use beside other apps."""
        requests = (spec.gpus for spec in self.containers if self.gpu_foreign is None)
        return max((request.count for request in requests if request), default=0)

    def with_gpus(self, ids: Sequence[str], kind: str) -> JobPlan:
        """Return the same plan with these GPUs, given to the replicas in order.

        Args:
            ids: an id per GPU, or "all" for the GPUs of a daemon that does not report ids.
            kind: their CDI kind, like ``nvidia.com/gpu``.
        """
        left, containers = iter(ids), []
        for spec in self.containers:
            if spec.gpus is None:
                containers.append(spec)
                continue
            own = tuple(islice(left, spec.gpus.count))
            known = () if own == ("all",) else own
            request = replace(spec.gpus, device_ids=known, kind=kind or spec.gpus.kind)
            held = {**spec.labels, labels.GPUS: ",".join(own)}
            containers.append(replace(spec, gpus=request, labels=held))
        return replace(self, containers=tuple(containers))

    def with_images(self, roles: Iterable[Role]) -> JobPlan:
        """Return the same plan with the images of these roles."""
        images = {role.name: role.image for role in roles}
        containers = tuple(
            replace(spec, image=images[spec.role], env={**spec.env, IMAGE: images[spec.role]})
            for spec in self.containers
        )
        return replace(self, containers=containers)

    @property
    def images(self) -> tuple[str, ...]:
        """The distinct images, by first use."""
        return tuple(dict.fromkeys(spec.image for spec in self.containers))


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """Values that are equal for all replicas of an app."""

    opts: Opts
    launch: LaunchContext
    inherited: Mapping[str, str]
    trackers: Mapping[str, str]
    labels: Mapping[str, str]
    hosts: Mapping[str, str]
    rank0: str
    #: What holds the checkpoints, variables that name places, and labels of a new volume.
    mounts: tuple[BindMount | VolumeMount, ...] = ()
    forced: Mapping[str, str] = field(default_factory=lambda: {PROGRESS_FILE: PROGRESS_PATH})
    volume_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def with_checkpoints(self, kept: Checkpoints) -> _Shared:
        """Return the same values for replicas that keep checkpoints."""
        return replace(
            self,
            labels={**self.labels, **kept.labels},
            mounts=(kept.mount,),
            forced={**self.forced, CHECKPOINT_DIR: kept.folder},
            volume_labels=kept.volume_labels,
        )


def plan(app: AppDef, opts: Opts, launch: LaunchContext) -> JobPlan:
    """Return the plan for an app that `preflight` found valid."""
    copied = copied_env(opts.copy_env, launch.environ)
    rank0 = container_name(launch.app_id, app.roles[0].name, 0)
    hosts = _loopback_hosts(app, opts, launch.app_id)
    shared = _Shared(
        opts=opts,
        launch=launch,
        inherited={
            ERROR_FILE: ERROR_PATH,
            **torchrun_env(opts),
            **stall_env(opts),
            **launch.proxy_env,
            **launch.ambient_env,
            **copied,
        },
        trackers=tracker_env(opts.trackers),
        labels={**opts.labels, **launch.labels, **_app_labels(app, opts, launch)},
        hosts=hosts,
        rank0=rank0 if rank0 in hosts or has_own_address(opts.network) else "localhost",
    )
    kept = checkpoints(opts, app_id=launch.app_id, app_name=app.name, own=launch.labels)
    if kept is not None:
        shared = shared.with_checkpoints(kept)
    return JobPlan(
        app_id=launch.app_id,
        handle=launch.handle,
        launch_id=launch.launch_id,
        containers=tuple(_container(*replica, shared) for replica in _replicas(app)),
        network=opts.network,
        pull_policy=opts.pull_policy,
        secret_env=frozenset({*copied, *launch.private_env}),
        warnings=tuple(_warnings(app, opts, launch)),
        folders=kept.folders if kept else (),
        is_waited_for=launch.is_waited_for,
        gpu_foreign=opts.gpu_foreign if opts.auto_set_gpus and requested_gpus(app) else None,
    )


def requested_gpus(app: AppDef) -> int:
    """Return the number of GPUs that all replicas of an app request together."""
    return sum(max(role.resource.gpu, 0) * role.num_replicas for role in app.roles)


def macro_values(app_id: str, replica: int) -> macros.Values:
    """Return the values of TorchX's macros for a replica."""
    return macros.Values(img_root="", app_id=app_id, replica_id=str(replica), rank0_env=RANK0_HOST)


def _replicas(app: AppDef) -> Iterator[tuple[Role, int]]:
    for role in app.roles:
        for replica in range(role.num_replicas):
            yield role, replica


def _container(role: Role, replica: int, shared: _Shared) -> ContainerSpec:
    launch, opts, resource = shared.launch, shared.opts, role.resource
    values = macro_values(launch.app_id, replica)
    # As in TorchX, macros count in the configuration of a tracker.
    filled = values.apply(replace(role, env={**role.env, **shared.trackers}))
    own = {REPLICA_IDX: str(replica), NUM_REPLICAS: str(role.num_replicas)}
    env = {**shared.inherited, **own, **opts.env, **filled.env}
    forced = {RANK0_HOST: shared.rank0, IMAGE: role.image, JOB_ID: launch.handle}
    if labels.RETRIES in shared.labels:
        forced[RESTART] = "0"
    mounts = [*role.mounts, *shared.mounts, *_named_devices(resource.devices)]
    gpus, driver = resource.gpu, opts.gpu_driver or ""
    are_own = gpus > 0 and opts.auto_set_gpus
    return ContainerSpec(
        role=role.name,
        replica=replica,
        name=container_name(launch.app_id, role.name, replica),
        image=role.image,
        entrypoint=role.entrypoint,
        args=tuple(filled.args),
        env={**env, **launch.private_env, **shared.forced, **forced},
        labels={
            **shared.labels,
            labels.ROLE_NAME: role.name,
            labels.REPLICA_ID: str(replica),
            # Docker gives a request by count the first GPUs of the host. The label of a replica
            # without GPUs is empty, so that no client has to inspect it.
            **({} if are_own else {labels.GPUS: ",".join(map(str, range(gpus)))}),
        },
        network=opts.network,
        mounts=tuple(mount for mount in mounts if isinstance(mount, (BindMount, VolumeMount))),
        devices=tuple(mount for mount in mounts if isinstance(mount, DeviceMount)),
        nano_cpus=round(resource.cpu * 1e9) if resource.cpu >= 0 else None,
        memory_mib=resource.memMB if resource.memMB >= 0 else None,
        gpus=GpuRequest(count=gpus, driver=driver) if gpus > 0 else None,
        max_restarts=role.max_retries if role.retry_policy is RetryPolicy.REPLICA else 0,
        ports=_ports(role, replica) if opts.publish_ports else (),
        stop_grace_s=_stop_grace_s(role, opts),
        volume_labels=shared.volume_labels,
        host=replace(opts.host_options(), extra_hosts={**shared.hosts, **opts.extra_hosts}),
    )


def _stop_grace_s(role: Role, opts: Opts) -> float:
    is_auxiliary = bool(opts.essential_roles) and role.name not in opts.essential_roles
    if is_auxiliary and opts.auxiliary_grace_s is not None:
        return opts.auxiliary_grace_s
    return opts.stop_grace_s


def _loopback_hosts(app: AppDef, opts: Opts, app_id: str) -> dict[str, str]:
    """Return names and addresses of all replicas, where Docker resolves no names.

    torchrun announces the host name of a replica to the others. Addresses differ, because it takes
    two nodes for one if the names that belong to their addresses and their process ids are equal.

    A sole replica on the host's network keeps the host's name: Docker copies the host's
    ``/etc/hosts`` only into containers without entries of their own.
    """
    names = [container_name(app_id, role.name, replica) for role, replica in _replicas(app)]
    is_needed = opts.network == "none" or (opts.network == "host" and len(names) > 1)
    return {name: str(_LOOPBACK + index) for index, name in enumerate(names) if is_needed}


def _app_labels(app: AppDef, opts: Opts, launch: LaunchContext) -> dict[str, str]:
    chosen = {}
    if opts.failure_rules:
        chosen[labels.FAILURE_RULES] = label_of(opts.failure_rules)
    if opts.essential_roles:
        chosen[labels.ESSENTIAL_ROLES] = json.dumps(list(opts.essential_roles))
        if opts.auxiliary_grace_s is not None:
            chosen[labels.AUXILIARY_GRACE] = f"{opts.auxiliary_grace_s:g}"
    return {
        **chosen,
        **_retry_labels(app, launch),
        labels.VERSION: __version__,
        labels.APP_ID: launch.app_id,
        labels.APP_NAME: app.name,
        labels.HANDLE: launch.handle,
        labels.LAUNCH_ID: launch.launch_id,
        labels.ROLES: json.dumps({role.name: role.num_replicas for role in app.roles}),
        labels.FAILURE_POLICY: opts.failure_policy,
        labels.STOP_GRACE: f"{opts.stop_grace_s:g}",
        **checkpoint_labels(opts),
        **stall_labels(opts),
        **progress_labels(opts),
        **placement_labels(opts, has_gpus=requested_gpus(app) > 0),
    }


def _retry_labels(app: AppDef, launch: LaunchContext) -> dict[str, str]:
    retries = {role.name: [role.retry_policy.value, role.max_retries] for role in restarted(app)}
    if not (retries and launch.is_waited_for):
        return {}
    codes = ",".join(map(str, sorted(set(launch.final_exit_codes))))
    found = {labels.RETRIES: json.dumps(retries)}
    return found | {labels.NO_RESTART_EXIT_CODES: codes} if codes else found


def copied_env(patterns: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables whose names match a glob pattern."""
    return {
        name: value
        for name, value in sorted(environ.items())
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def _ports(role: Role, replica: int) -> tuple[PortBinding, ...]:
    # The other replicas share the host with replica 0, so they get free ports.
    return tuple(
        PortBinding(container_port=port, host_port=port if replica == 0 else 0)
        for port in role.port_map.values()
    )


def _named_devices(devices: Mapping[str, int]) -> Iterator[DeviceMount]:
    for name, count in devices.items():
        path = DEVICE_PATHS.get(name)
        for index in range(count if path else 0):
            yield DeviceMount(src_path=f"{path}{index}", dst_path=f"{path}{index}")


def _warnings(app: AppDef, opts: Opts, launch: LaunchContext) -> Iterator[str]:
    if opts.working_dir and any(role.workspace for role in app.roles):
        yield (
            f"options.working_dir: relative paths start at {opts.working_dir!r}, but the files of "
            "the workspace are in the working directory of the image"
        )
    if not launch.is_waited_for and (warning := detached_warning(app, opts)):
        yield warning
    for i, role in enumerate(app.roles):
        for name in role.resource.devices:
            if name not in DEVICE_PATHS:
                known = ", ".join(DEVICE_PATHS)
                yield f"roles[{i}].resource.devices: {name!r} is ignored; known devices: {known}"
        if role.min_replicas is not None and role.min_replicas < role.num_replicas:
            yield f"roles[{i}].min_replicas: ignored; all {role.num_replicas} replicas are launched"
