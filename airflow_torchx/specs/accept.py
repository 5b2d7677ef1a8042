"""Apps and resources in whatever form users have them: ours, TorchX's own, or plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_torchx.errors import InvalidAppError, Problem
from airflow_torchx.specs import torchx_compat
from airflow_torchx.specs.app import AppDef, Resource
from airflow_torchx.specs.serialize import from_dict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_torchx.specs.readers import Problems

T = TypeVar("T")


class AnyApp(Protocol):
    """An ``AppDef``, be it ours or TorchX's."""

    @property
    def name(self) -> str:
        """Name of the app."""

    @property
    def roles(self) -> Sequence[Any]:
        """The roles."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What only some scheduler understands."""


def is_app(value: object) -> bool:
    """Tell whether a value is an ``AppDef``, ours or TorchX's."""
    return isinstance(value, AppDef) or torchx_compat.is_app(value)


def as_app(value: object) -> AppDef:
    """Return the app that a value is: ours as it is, TorchX's or a mapping as one of ours.

    Args:
        value: an ``AppDef`` of ours or TorchX's, or a mapping in the form of `to_dict`.

    Raises:
        InvalidAppError: it is none; or with one problem for every field that is wrong, or that
            only TorchX could honour, like a ``pre_proc``.
    """
    if isinstance(value, AppDef):
        return value
    if torchx_compat.is_app(value):
        return _read(*torchx_compat.app_data(value), AppDef)
    return from_dict(value)


def as_resource(value: object) -> Resource:
    """Return the resource that a value is, ours or TorchX's.

    Raises:
        InvalidAppError: it is none, or a field of it is wrong.
    """
    if isinstance(value, Resource):
        return value
    if torchx_compat.is_resource(value):
        return _read(*torchx_compat.resource_data(value), Resource)
    what = f"expected a Resource, got {type(value).__name__}"
    raise InvalidAppError([Problem("resource", what, "return a Resource")], subject="resource")


def _read(data: dict[str, Any], lost: Problems, kind: type[T]) -> T:
    """Return what plain data describes, once nothing of it is wrong or lost."""
    problems: Problems = [*lost]
    try:
        spec = from_dict(data, kind)
    except InvalidAppError as wrong:
        problems += wrong.problems
    else:
        if not problems:
            return spec
    named = f"app {data.get('name')!r}" if kind is AppDef else "resource"
    raise InvalidAppError(problems, subject=named)
