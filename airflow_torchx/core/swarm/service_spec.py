"""The services of a swarm that replicas become, one service for each; pure.

https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Service. A service has one task at
most: the replica. Its name is a DNS label, which the manager enforces, so a container name with
dots is written with dashes and a digest. The true name is a label.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.labels import (
    CONSTRAINTS,
    SWARM_MARK,
    SWARM_NAME,
    SWARM_PIN,
    SWARM_TAKEN_BACK,
    SWARM_WAITS,
    json_of,
)
from airflow_torchx.core.engine.tmpfs import tmpfs_options
from airflow_torchx.core.plan.identity import MAX_NAME, digested, first_name
from airflow_torchx.specs import BindMount, VolumeMount

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.core.connection.swarm import Swarm
    from airflow_torchx.core.engine.containers import ContainerSpec

Json = dict[str, Any]

#: A constraint that no node meets: a task that is stopped is replaced by one that never starts, and
#: keeps its state, exit code and log. A service that is scaled to zero, or removed, loses them.
NOWHERE: Final = "node.id==none"
#: A swarm keeps one task more than these attempts, whatever its own task history limit is.
_ATTEMPTS: Final = 4
_MIB: Final = 1 << 20
_SECOND_NS: Final = 1_000_000_000
_SHM: Final = "/dev/shm"  # noqa: S108 - of the container


def service_name(name: str) -> str:
    """Return the name of the service of a container; a mark at its end does not count.

    A name that DNS does not take, and one of a round that is too long, has a digest in it:
    ``a.b`` is not the container ``a-b``.
    """
    whole = first_name(name)
    label = whole.replace(".", "-").strip("-_")
    return label if label == whole and len(label) <= MAX_NAME else digested(label, whole)


def service_json(spec: ContainerSpec, swarm: Swarm) -> Json:
    """Return the body of ``POST /services/create``: a service that does not run yet."""
    labels = {**spec.labels, SWARM_NAME: spec.name}
    ports = [
        {"TargetPort": one.container_port, "PublishedPort": one.host_port, "PublishMode": "host"}
        for one in spec.ports
    ]
    # Addresses of the replicas themselves: a connection to a virtual address ends when it is idle.
    endpoint = {"Mode": "dnsrr", "Ports": ports or None}
    return {
        "Name": service_name(spec.name),
        # The list of tasks is filtered by labels of services; those of containers show on a node.
        "Labels": labels,
        "Mode": {"Replicated": {"Replicas": 0}},
        # One by one, which is the default, the second task of a service that a user has scaled
        # would run on once it is stopped: the substitute of the first one never starts.
        "UpdateConfig": {"Parallelism": 0},
        "EndpointSpec": _without_none(endpoint),
        "TaskTemplate": _task(spec, labels, swarm),
    }


def started(service: Mapping[str, Any], node_id: str = "") -> Json:
    """Return the specification of a service with its replica, on this node if one is given."""
    one = {"Mode": {"Replicated": {"Replicas": 1}}}
    labels = {k: v for k, v in (service.get("Labels") or {}).items() if k != SWARM_WAITS}
    if not node_id:
        return {**service, "Labels": labels, **one}
    template = service["TaskTemplate"]
    placement = template.get("Placement") or {}
    pinned = [*(placement.get("Constraints") or ()), _pin(node_id)]
    changed = {**template, "Placement": {**placement, "Constraints": pinned}}
    return {**service, "Labels": {**labels, SWARM_PIN: node_id}, "TaskTemplate": changed, **one}


def unstarted(service: Mapping[str, Any], taken_back: str = "") -> Json:
    """Return the specification of a service without its replica, which may go to any node again.

    ``taken_back`` says how often, and when, a part of its app has been taken back.
    """
    labels = dict(service.get("Labels") or {})
    template = service["TaskTemplate"]
    placement = template.get("Placement") or {}
    free = list(placement.get("Constraints") or ())
    pin = _pin(labels.pop(SWARM_PIN, ""))
    if free[-1:] == [pin]:
        free.pop()
    if taken_back:
        labels[SWARM_TAKEN_BACK] = taken_back
    changed = {**template, "Placement": {**placement, "Constraints": free}}
    none = {"Mode": {"Replicated": {"Replicas": 0}}}
    return {**service, "Labels": labels, "TaskTemplate": changed, **none}


def waiting(service: Mapping[str, Any], why: str) -> Json:
    """Return the specification of a service that says why its app waits for room."""
    return {**service, "Labels": {**(service.get("Labels") or {}), SWARM_WAITS: why}}


def _pin(node_id: str) -> str:
    return f"node.id=={node_id}"


def is_started(service: Mapping[str, Any]) -> bool:
    """Return whether a service has been started."""
    replicated = (service.get("Mode") or {}).get("Replicated") or {}
    return bool(replicated.get("Replicas"))


def stopped(service: Mapping[str, Any], name: str) -> Json:
    """Return the specification of a service whose replica ends, with the name that says why."""
    template = service["TaskTemplate"]
    container = template["ContainerSpec"]
    marked = {**container, "Labels": {**(container.get("Labels") or {}), SWARM_MARK: name}}
    # Its constraints go: a task without them and without a node is not a replica that waits.
    nowhere = {**(template.get("Placement") or {}), "Constraints": [NOWHERE]}
    changed = {**template, "ContainerSpec": marked, "Placement": nowhere}
    return {**renamed(service, name), "TaskTemplate": changed}


def renamed(service: Mapping[str, Any], name: str) -> Json:
    """Return the specification of a service whose container has another name; its task goes on."""
    return {**service, "Labels": {**(service.get("Labels") or {}), SWARM_MARK: name}}


def cloned(
    service: Mapping[str, Any],
    swarm: Swarm,
    *,
    name: str,
    labels: Mapping[str, str],
    env: Mapping[str, str],
) -> Json:
    """Return the specification of a service like another one, which does not run yet."""
    template = service["TaskTemplate"]
    container = template["ContainerSpec"]
    own = {**_unmarked(container.get("Labels") or {}), **labels, SWARM_NAME: name}
    kept = [one for one in container.get("Env") or [] if one.partition("=")[0] not in env]
    added = [f"{key}={escaped(value)}" for key, value in env.items()]
    changed = {**container, "Labels": own, "Env": [*kept, *added]}
    return {
        **service,
        "Name": service_name(name),
        "Labels": own,
        "Mode": {"Replicated": {"Replicas": 0}},
        "TaskTemplate": {**template, "ContainerSpec": changed, "Placement": _placement(swarm, own)},
    }


def current_name(labels: Mapping[str, str]) -> str:
    """Return the container's name in the labels of a service or a task."""
    return labels.get(SWARM_MARK) or labels.get(SWARM_NAME, "")


def escaped(text: str) -> str:
    """Return a text that a swarm passes on as it is; Docker expands it as a Go template."""
    return text.replace("{{", '{{"{{"}}')


def _unmarked(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in labels.items() if key != SWARM_MARK}


def _task(spec: ContainerSpec, labels: Mapping[str, str], swarm: Swarm) -> Json:
    is_host = spec.network == "host"
    # On the host's network, Docker takes no aliases.
    network = {"Target": spec.network} | ({} if is_host else {"Aliases": [spec.name]})
    log = {"Name": spec.host.log_driver, "Options": dict(spec.host.log_options)}
    return _without_none(
        {
            "ContainerSpec": _container(spec, labels),
            "Resources": _resources(spec, swarm.gpu_resource),
            # A restart of the swarm's own could be a second process of a lost replica.
            "RestartPolicy": {"Condition": "none", "MaxAttempts": _ATTEMPTS},
            "Placement": _placement(swarm, labels),
            "Networks": [network],
            "LogDriver": log if spec.host.log_driver else None,
        }
    )


def _placement(swarm: Swarm, labels: Mapping[str, str]) -> Json:
    """Return the constraints of the connection, and those of the app.

    A later round has them, too: those of a replica that was stopped are gone.
    """
    own = json_of(labels, CONSTRAINTS) or ()
    return {"Constraints": list(dict.fromkeys([*swarm.constraints, *map(str, own)]))}


def _container(spec: ContainerSpec, labels: Mapping[str, str]) -> Json:
    host = spec.host
    return _without_none(
        {
            "Image": spec.image,
            "Command": [spec.entrypoint],
            "Args": list(spec.args),
            "Hostname": None if spec.network == "host" else escaped(spec.name),
            "Env": [f"{name}={escaped(value)}" for name, value in spec.env.items()],
            "Labels": dict(labels),
            # A swarm ends what the health check of its image finds unhealthy: it may be of a web
            # server that a training does not start.
            "Healthcheck": {"Test": ["NONE"]},
            "StopGracePeriod": math.ceil(spec.stop_grace_s) * _SECOND_NS,
            "User": host.user,
            "Dir": host.working_dir,
            "Init": host.init,
            "Hosts": [f"{address} {name}" for name, address in host.extra_hosts.items()] or None,
            "DNSConfig": {"Nameservers": list(host.dns)} if host.dns else None,
            "CapabilityAdd": list(host.cap_add) or None,
            "Ulimits": [{"Name": u.name, "Soft": u.soft, "Hard": u.hard} for u in host.ulimits]
            or None,
            "Mounts": _mounts(spec) or None,
        }
    )


def _resources(spec: ContainerSpec, gpu_resource: str) -> Json:
    memory = None if spec.memory_mib is None else spec.memory_mib * _MIB
    amounts = _without_none({"NanoCPUs": spec.nano_cpus or None, "MemoryBytes": memory or None})
    gpus = spec.gpus.count if spec.gpus else 0
    generic = [{"DiscreteResourceSpec": {"Kind": gpu_resource, "Value": gpus}}]
    return {
        "Limits": amounts,
        # What is reserved is what is limited, so that replicas do not share what they asked for.
        "Reservations": amounts | ({"GenericResources": generic} if gpus else {}),
    }


def _mounts(spec: ContainerSpec) -> list[Json]:
    mounts = [_mount(one, spec.volume_labels) for one in spec.mounts]
    mounts += [
        {"Type": "tmpfs", "Target": escaped(path), "TmpfsOptions": tmpfs_options(options)}
        for path, options in spec.host.tmpfs.items()
    ]
    targets = {one["Target"] for one in mounts}
    if spec.memory_mib and _SHM not in targets:
        # A swarm has no field for the size of /dev/shm.
        size = {"SizeBytes": spec.memory_mib * _MIB}
        mounts.append({"Type": "tmpfs", "Target": _SHM, "TmpfsOptions": size})
    return mounts


def _mount(mount: BindMount | VolumeMount, labels: Mapping[str, Mapping[str, str]]) -> Json:
    is_volume = isinstance(mount, VolumeMount)
    source = mount.src if isinstance(mount, VolumeMount) else mount.src_path
    own = labels.get(source, {}) if is_volume else {}
    given = {name: escaped(value) for name, value in own.items()}
    return {
        "Type": "volume" if is_volume else "bind",
        "Source": escaped(source),
        "Target": escaped(mount.dst_path),
        "ReadOnly": mount.read_only,
        **({"VolumeOptions": {"Labels": given}} if given else {}),
    }


def _without_none(body: Json) -> Json:
    return {key: value for key, value in body.items() if value is not None}
