"""Defines apps and their status under TorchX's names, as frozen data."""

from airflow_torchx.errors import AppNotFoundError as UnknownAppException
from airflow_torchx.errors import InvalidHandleError as MalformedAppHandleException
from airflow_torchx.errors import InvalidOptionsError as InvalidRunConfigException
from airflow_torchx.specs.accept import AnyApp, as_app, is_app
from airflow_torchx.specs.app import (
    MISSING,
    NONE,
    NULL_RESOURCE,
    AppDef,
    BindMount,
    DeviceMount,
    Resource,
    RetryPolicy,
    Role,
    VolumeMount,
    Workspace,
)
from airflow_torchx.specs.frozen import FrozenDict, FrozenList
from airflow_torchx.specs.handle import (
    AppHandle,
    ParsedAppHandle,
    make_app_handle,
    parse_app_handle,
)
from airflow_torchx.specs.mounts import parse_mounts
from airflow_torchx.specs.resources import named_resource as get_named_resources
from airflow_torchx.specs.resources import named_resources, resource
from airflow_torchx.specs.serialize import from_dict, to_dict
from airflow_torchx.specs.status import (
    AppState,
    DescribeAppResponse,
    ListAppResponse,
    ReplicaState,
    ReplicaStatus,
    RoleStatus,
    WorkerFailure,
    is_terminal,
)
from airflow_torchx.specs.substitution import macros
from airflow_torchx.specs.usage import ReplicaUsage

__all__ = [
    "MISSING",
    "NONE",
    "NULL_RESOURCE",
    "AnyApp",
    "AppDef",
    "AppHandle",
    "AppState",
    "BindMount",
    "DescribeAppResponse",
    "DeviceMount",
    "FrozenDict",
    "FrozenList",
    "InvalidRunConfigException",
    "ListAppResponse",
    "MalformedAppHandleException",
    "ParsedAppHandle",
    "ReplicaState",
    "ReplicaStatus",
    "ReplicaUsage",
    "Resource",
    "RetryPolicy",
    "Role",
    "RoleStatus",
    "UnknownAppException",
    "VolumeMount",
    "WorkerFailure",
    "Workspace",
    "as_app",
    "from_dict",
    "get_named_resources",
    "is_app",
    "is_terminal",
    "macros",
    "make_app_handle",
    "named_resources",
    "parse_app_handle",
    "parse_mounts",
    "resource",
    "to_dict",
]
