"""The fields of a task that this package reads, for a decoder that passes over all others.

https://docs.docker.com/reference/api/engine/ has all of them, also networks and the environment,
which are two thirds of a task. A manager may leave each field out.
"""

from __future__ import annotations

from typing import Any, TypedDict

Json = dict[str, Any]


class _Version(TypedDict, total=False):
    Index: int


class _Container(TypedDict, total=False):
    Image: str | None
    Labels: dict[str, str] | None


class _Placement(TypedDict, total=False):
    Constraints: list[str] | None


class _Spec(TypedDict, total=False):
    ContainerSpec: _Container | None
    Placement: _Placement | None
    Resources: Json | None


class _ContainerStatus(TypedDict, total=False):
    ContainerID: str | None
    ExitCode: int | None


class _Status(TypedDict, total=False):
    ContainerStatus: _ContainerStatus | None
    Err: str | None
    State: str | None
    Timestamp: str | None


class TaskFields(TypedDict, total=False):
    """What is read of a task."""

    CreatedAt: str | None
    DesiredState: str | None
    GenericResources: list[Json] | None
    ID: str
    NodeID: str | None
    ServiceID: str | None
    Spec: _Spec | None
    Status: _Status | None
    Version: _Version | None
