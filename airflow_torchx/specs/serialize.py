"""Converts specs to JSON data and back without loss.

States are written by name, times in ISO 8601, and the kind of a mount as ``type``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeVar, cast, overload

from airflow_torchx.errors import InvalidAppError, Problem
from airflow_torchx.specs import readers as read
from airflow_torchx.specs.app import (
    AppDef,
    BindMount,
    DeviceMount,
    Resource,
    RetryPolicy,
    Role,
    VolumeMount,
    Workspace,
)
from airflow_torchx.specs.status import (
    AppState,
    DescribeAppResponse,
    ListAppResponse,
    ReplicaStatus,
    RoleStatus,
    WorkerFailure,
)
from airflow_torchx.specs.suggest import suggest
from airflow_torchx.specs.usage import ReplicaUsage

T = TypeVar("T")

_MOUNTS: Final = {"bind": BindMount, "volume": VolumeMount, "device": DeviceMount}
_MOUNT_TYPES: Final = {cls: name for name, cls in _MOUNTS.items()}


def to_dict(spec: object, *, templated: bool = False) -> dict[str, Any]:
    """Return a spec or status as JSON data, which ``from_dict`` reads.

    With ``templated``, outputs of other tasks of a DAG stay in it as they are.

    Raises:
        InvalidAppError: metadata, capabilities or tags hold values that are not JSON; one problem
            each.
    """
    problems = read.Problems(templated=templated)
    data = _write("", spec, problems)
    if problems:
        raise InvalidAppError(problems)
    return cast("dict[str, Any]", data)


@overload
def from_dict(data: object, *, templated: bool = False) -> AppDef: ...
@overload
def from_dict(data: object, kind: type[T], *, templated: bool = False) -> T: ...
def from_dict(data: object, kind: type[Any] = AppDef, *, templated: bool = False) -> Any:
    """Return the spec that ``data`` describes.

    Args:
        data: a mapping as ``to_dict`` returns it; fields with a default may be omitted.
        kind: class of the spec, like ``DescribeAppResponse``.
        templated: the values may come from templates: a text of digits is taken as a number where
            a number is meant, and a number as a text.

    Raises:
        InvalidAppError: fields are invalid, missing or unknown; one problem each.
    """
    problems = read.Problems(templated=templated)
    spec = _record(kind)("", data, problems)
    if problems:
        name = data.get("name") if isinstance(data, Mapping) else None
        raise InvalidAppError(problems, subject=f"app {name!r}" if isinstance(name, str) else "app")
    return spec


def _write(path: str, value: object, problems: read.Problems) -> Any:  # noqa: ANN401 - JSON data
    if isinstance(value, AppState | RetryPolicy):
        return value.name
    if isinstance(value, datetime):
        return value.isoformat()
    if type(value) in _FIELDS:
        return _write_record(path, value, problems)
    if isinstance(value, list | tuple):
        return read.sequence(_write)(path, value, problems)
    if isinstance(value, Mapping):
        return read.mapping(_write)(path, value, problems)
    return read.anything(path, value, problems)


def _write_record(path: str, spec: object, problems: read.Problems) -> dict[str, Any]:
    tag = {"type": _MOUNT_TYPES[type(spec)]} if type(spec) in _MOUNT_TYPES else {}
    return tag | {
        name: _write(_join(path, name), getattr(spec, name), problems)
        for name in _FIELDS[type(spec)]
    }


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _record(cls: type[Any]) -> read.Reader:
    """Return a reader of the spec class ``cls``."""

    def read_record(path: str, value: object, problems: read.Problems) -> object:
        if not isinstance(value, Mapping):
            fix = f"write the fields of {cls.__name__}"
            if cls is Resource and isinstance(value, str):
                fix = f"write resource(h={value!r}), with resource of airflow_torchx.specs"
            problems.append(read.unexpected(path, "a dict", value, fix))
            return None
        known, found = _FIELDS[cls], len(problems)
        for key in value:
            if key not in known:
                what, fix = "unknown field", suggest(str(key), known)
                problems.append(Problem(_join(path, key), what, fix))
        for name in _required(cls):
            if name not in value:
                problems.append(Problem(_join(path, name), "missing", "set it, it has no default"))
        fields = {
            name: reader(_join(path, name), value[name], problems)
            for name, reader in known.items()
            if name in value
        }
        return cls(**fields) if len(problems) == found else None

    return read_record


def _required(cls: type[Any]) -> list[str]:
    unset = dataclasses.MISSING
    return [
        field.name
        for field in dataclasses.fields(cls)
        if field.default is unset and field.default_factory is unset
    ]


def _mount(path: str, value: object, problems: read.Problems) -> object:
    if not isinstance(value, Mapping):
        problems.append(read.unexpected(path, "a dict", value, "write the fields of a mount"))
        return None
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _MOUNTS:
        fix = suggest(str(kind), _MOUNTS)
        problems.append(read.unexpected(_join(path, "type"), "a mount type", kind, fix))
        return None
    fields = {key: item for key, item in value.items() if key != "type"}
    return _record(_MOUNTS[kind])(path, fields, problems)


_STRINGS: Final = read.mapping(read.text)
_NUMBERS: Final = read.mapping(read.whole())
_ANYTHING: Final = read.mapping(read.anything)

#: The reader of each field, by class.
_FIELDS: Final[dict[type[Any], dict[str, read.Reader]]] = {
    BindMount: {"src_path": read.text, "dst_path": read.text, "read_only": read.flag},
    VolumeMount: {"src": read.text, "dst_path": read.text, "read_only": read.flag},
    DeviceMount: {"src_path": read.text, "dst_path": read.text, "permissions": read.text},
    Workspace: {"projects": _STRINGS},
    Resource: {
        "cpu": read.number("CPUs"),
        "gpu": read.whole("GPUs"),
        "memMB": read.whole("MB"),
        "capabilities": _ANYTHING,
        "devices": _NUMBERS,
        "tags": _ANYTHING,
    },
    Role: {
        "name": read.text,
        "image": read.text,
        "min_replicas": read.optional(read.whole("replicas")),
        "entrypoint": read.text,
        "args": read.sequence(read.text),
        "env": _STRINGS,
        "num_replicas": read.whole("replicas"),
        "max_retries": read.whole("retries"),
        "retry_policy": read.policy,
        "resource": _record(Resource),
        "port_map": _NUMBERS,
        "metadata": _ANYTHING,
        "mounts": read.sequence(_mount),
        "workspace": read.optional(_record(Workspace)),
    },
    AppDef: {"name": read.text, "roles": read.sequence(_record(Role)), "metadata": _STRINGS},
    ReplicaStatus: {
        "id": read.whole(),
        "state": read.state,
        "role": read.text,
        "hostname": read.text,
        "structured_error_msg": read.text,
        "hostaddr": read.optional(read.text),
        "exit_code": read.optional(read.whole()),
        "signal": read.optional(read.text),
        "oom_killed": read.flag,
        "error": read.text,
        "num_restarts": read.optional(read.whole("restarts")),
        "started_at": read.optional(read.timestamp),
        "finished_at": read.optional(read.timestamp),
        "container_id": read.text,
        "gpus": read.sequence(read.text),
        "stalled": read.flag,
        "worker": read.optional(_record(WorkerFailure)),
        "round": read.whole("rounds"),
        "rule": read.text,
        "usage": read.optional(_record(ReplicaUsage)),
        "created_at": read.optional(read.timestamp),
        "node": read.text,
    },
    ReplicaUsage: {
        "sampled_at": read.timestamp,
        "cpus": read.optional(read.number("CPUs")),
        "cpus_peak": read.optional(read.number("CPUs")),
        "cpus_limit": read.optional(read.number("CPUs")),
        "cpu_s": read.number("seconds"),
        "memory_bytes": read.whole("bytes"),
        "memory_peak_bytes": read.whole("bytes"),
        "memory_limit_bytes": read.optional(read.whole("bytes")),
        "received_bytes": read.whole("bytes"),
        "sent_bytes": read.whole("bytes"),
        "gpu_percent": read.optional(read.number("percent")),
        "gpu_peak_percent": read.optional(read.number("percent")),
        "gpu_memory_bytes": read.optional(read.whole("bytes")),
        "gpu_memory_peak_bytes": read.optional(read.whole("bytes")),
        "gpu_memory_limit_bytes": read.optional(read.whole("bytes")),
    },
    WorkerFailure: {
        "rank": read.optional(read.whole()),
        "exit_code": read.optional(read.whole()),
        "signal": read.optional(read.text),
        "message": read.text,
        "traceback": read.text,
        "failed_at": read.optional(read.timestamp),
    },
    RoleStatus: {"role": read.text, "replicas": read.sequence(_record(ReplicaStatus))},
    DescribeAppResponse: {
        "app_id": read.text,
        "state": read.state,
        "num_restarts": read.whole("restarts"),
        "msg": read.text,
        "structured_error_msg": read.text,
        "ui_url": read.optional(read.text),
        "metadata": _STRINGS,
        "roles_statuses": read.sequence(_record(RoleStatus)),
        "roles": read.sequence(_record(Role)),
    },
    ListAppResponse: {
        "app_id": read.text,
        "state": read.state,
        "app_handle": read.text,
        "name": read.text,
        "created_at": read.optional(read.timestamp),
    },
}
