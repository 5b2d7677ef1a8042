"""Request bodies and parameters of the Engine API; pure.

https://docs.docker.com/reference/api/engine/version/v1.41/
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.containers import BUILT_IN_NETWORKS
from airflow_torchx.docker_engine.gpus import device_request
from airflow_torchx.specs import BindMount, VolumeMount

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.core.engine.containers import (
        ContainerSpec,
        HostOptions,
        LogQuery,
    )

    Json = dict[str, Any]

_MIB: Final = 1 << 20
_SECOND_NS: Final = 1_000_000_000


def container_json(spec: ContainerSpec) -> Json:
    """Return the body of ``POST /containers/create``, without the fields that are None."""
    shares_network = spec.network.startswith("container:")
    has_alias = not shares_network and spec.network not in BUILT_IN_NETWORKS
    # On the host's network, only names in /etc/hosts resolve, and Docker adds none by itself.
    has_name = spec.network != "host" or spec.name in spec.host.extra_hosts
    endpoint = {"EndpointsConfig": {spec.network: {"Aliases": [spec.name]}}}
    return _without_none(
        {
            "Image": spec.image,
            "Entrypoint": [spec.entrypoint],
            "Cmd": list(spec.args),
            # A container that joins another one's network shares its host name.
            "Hostname": spec.name if has_name and not shares_network else None,
            "Env": [f"{name}={value}" for name, value in spec.env.items()],
            "Labels": dict(spec.labels),
            "StopTimeout": math.ceil(spec.stop_grace_s),
            "ExposedPorts": {_port(bound.container_port): {} for bound in spec.ports} or None,
            "User": spec.host.user,
            "WorkingDir": spec.host.working_dir,
            "HostConfig": _host_config(spec),
            "NetworkingConfig": endpoint if has_alias else None,
        }
    )


def log_params(query: LogQuery) -> dict[str, str | int]:
    """Return the parameters of ``GET /containers/{id}/logs``."""
    params: dict[str, str | int] = {
        "stdout": int(query.streams != "stderr"),
        "stderr": int(query.streams != "stdout"),
        "follow": int(query.follow),
        "timestamps": int(query.timestamps),
        "tail": "all" if query.tail is None else query.tail,
    }
    for name, moment_ns in (("since", query.since_ns), ("until", query.until_ns)):
        if moment_ns is not None:
            seconds, rest_ns = divmod(moment_ns, _SECOND_NS)
            params[name] = f"{seconds}.{rest_ns:09d}"
    return params


def label_filters(labels: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Return the ``filters`` of a list request that match all these labels."""
    return {
        "label": [name if value is None else f"{name}={value}" for name, value in labels.items()]
    }


def _host_config(spec: ContainerSpec) -> Json:
    memory = None if spec.memory_mib is None else spec.memory_mib * _MIB
    return _without_none(
        {
            "NetworkMode": spec.network,
            "NanoCpus": spec.nano_cpus,
            # 0 means the same as in TorchX: no limit, and Docker's default size of /dev/shm.
            "Memory": memory,
            "ShmSize": memory,
            # Docker takes a maximum of 0 as unlimited.
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": spec.max_restarts}
            if spec.max_restarts
            else None,
            # With `Mounts`, a missing source is an error; `Binds` would create it.
            "Mounts": [_mount(mount, spec.volume_labels) for mount in spec.mounts] or None,
            "Devices": [
                {
                    "PathOnHost": device.src_path,
                    "PathInContainer": device.dst_path,
                    "CgroupPermissions": device.permissions,
                }
                for device in spec.devices
            ]
            or None,
            "DeviceRequests": [device_request(spec.gpus)] if spec.gpus else None,
            "PortBindings": {
                _port(bound.container_port): [{"HostPort": str(bound.host_port)}]
                for bound in spec.ports
            }
            or None,
            **_options(spec.host),
        }
    )


def _options(host: HostOptions) -> Json:
    return {
        "Privileged": host.privileged or None,
        "IpcMode": host.ipc_mode,
        "Ulimits": [{"Name": u.name, "Soft": u.soft, "Hard": u.hard} for u in host.ulimits] or None,
        "CapAdd": list(host.cap_add) or None,
        "Init": host.init,
        "ExtraHosts": [f"{name}:{address}" for name, address in host.extra_hosts.items()] or None,
        "Dns": list(host.dns) or None,
        "LogConfig": _log_config(host.log_driver, host.log_options),
        "Runtime": host.runtime,
        "SecurityOpt": list(host.security_opt) or None,
        "Tmpfs": dict(host.tmpfs) or None,
    }


def _mount(mount: BindMount | VolumeMount, labels: Mapping[str, Mapping[str, str]]) -> Json:
    kind, source = (
        ("bind", mount.src_path) if isinstance(mount, BindMount) else ("volume", mount.src)
    )
    given = dict(labels.get(source, {})) if isinstance(mount, VolumeMount) else {}
    return {
        "Type": kind,
        "Source": source,
        "Target": mount.dst_path,
        "ReadOnly": mount.read_only,
        **({"VolumeOptions": {"Labels": given}} if given else {}),
    }


def _log_config(driver: str | None, options: Mapping[str, str]) -> Json | None:
    if not driver and not options:
        return None
    return {"Type": driver or "", "Config": dict(options)}


def _port(number: int) -> str:
    return f"{number}/tcp"


def _without_none(body: Json) -> Json:
    return {key: value for key, value in body.items() if value is not None}
