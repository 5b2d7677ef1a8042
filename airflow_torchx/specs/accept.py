"""Accepts apps and resources as our types, as TorchX's types, or as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_torchx.errors import InvalidAppError, Problem
from airflow_torchx.specs import torchx_compat
from airflow_torchx.specs.app import AppDef, Resource
from airflow_torchx.specs.serialize import from_dict, to_dict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T")


class AnyApp(Protocol):
    """Describes an ``AppDef``, ours or TorchX's."""

    @property
    def name(self) -> str:
        """Return the app's name."""

    @property
    def roles(self) -> Sequence[Any]:
        """Return the app's roles."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Return settings that only some schedulers understand."""


def is_app(value: object) -> bool:
    """Return whether a value is an ``AppDef``, ours or TorchX's."""
    return isinstance(value, AppDef) or torchx_compat.is_app(value)


def as_app(value: object) -> AppDef:
    """Return a value as an ``AppDef``; one of ours is returned unchanged.

    Args:
        value: an ``AppDef``, ours or TorchX's, or a mapping as `to_dict` returns it, in which
            texts of digits are taken as numbers where numbers are meant, and numbers as texts.

    Raises:
        InvalidAppError: the value is not an app, or has fields that are invalid or that only
            TorchX supports, like ``pre_proc``; one problem per field.
    """
    if isinstance(value, AppDef):
        return value
    if torchx_compat.is_app(value):
        return _read(*torchx_compat.app_data(value), AppDef)
    return from_dict(value, templated=True)


def as_template(value: Any) -> Any:  # noqa: ANN401 - an app, or any other value
    """Return an app as a mapping, in which Airflow finds templates and outputs of other tasks.

    Other values are returned unchanged.

    Raises:
        InvalidAppError: a value in the app is neither JSON nor the output of another task.
    """
    return to_dict(as_app(value), templated=True) if is_app(value) else value


def as_resource(value: object) -> Resource:
    """Return a value as a ``Resource``; one of ours is returned unchanged.

    Raises:
        InvalidAppError: the value is not a resource, or has an invalid field.
    """
    if isinstance(value, Resource):
        return value
    if torchx_compat.is_resource(value):
        return _read(*torchx_compat.resource_data(value), Resource)
    what = f"expected a Resource, got {type(value).__name__}"
    raise InvalidAppError([Problem("resource", what, "return a Resource")], subject="resource")


def _read(data: dict[str, Any], unsupported: list[Problem], kind: type[T]) -> T:
    """Return the spec that plain data describes, or raise with every problem."""
    problems = [*unsupported]
    try:
        spec = from_dict(data, kind)
    except InvalidAppError as error:
        problems += error.problems
    else:
        if not problems:
            return spec
    subject = f"app {data.get('name')!r}" if kind is AppDef else "resource"
    raise InvalidAppError(problems, subject=subject)
