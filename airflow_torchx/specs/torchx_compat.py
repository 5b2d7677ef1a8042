"""Reads TorchX's objects and registries if it is installed; no other module imports TorchX.

The results are plain data as `specs.to_dict` returns it. Supports TorchX 0.7.0 and later.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.errors import ComponentNotFoundError, InvalidComponentError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: The command that installs TorchX.
INSTALL: Final = "pip install torchx-nightly"

_API: Final = "torchx.specs.api"
_MOUNTS: Final = {"BindMount": "bind", "VolumeMount": "volume", "DeviceMount": "device"}
#: Fields of TorchX's types that a Docker scheduler cannot support, and what to do instead.
_UNSUPPORTED: Final = {
    "base_image": "remove it, TorchX does not read it either",
    "overrides": "set the overridden fields directly",
}


def is_installed() -> bool:
    """Return whether TorchX can be imported; does not import it."""
    if "torchx" in sys.modules:
        return True
    # A folder of that name, like one for DAGs, is a namespace package and has no origin.
    spec = importlib.util.find_spec("torchx")
    return spec is not None and spec.origin is not None


def is_app(value: object) -> bool:
    """Return whether a value is TorchX's ``AppDef``; does not import TorchX."""
    return _is_a(value, "AppDef")


def is_resource(value: object) -> bool:
    """Return whether a value is TorchX's ``Resource``; does not import TorchX."""
    return _is_a(value, "Resource")


def app_data(app: Any) -> tuple[dict[str, Any], list[Problem]]:  # noqa: ANN401 - TorchX's AppDef
    """Return a TorchX ``AppDef`` as plain data, and the problems of its unsupported fields.

    Fields with TorchX's default are omitted, since our defaults are the same. The app is not
    changed, and none of its code runs.
    """
    problems: list[Problem] = []
    data = _record("", app, "AppDef", problems)
    if isinstance(roles := data.get("roles"), list | tuple):
        data["roles"] = [_role(f"roles[{i}]", role, problems) for i, role in enumerate(roles)]
    return data, problems


def resource_data(resource: Any) -> tuple[dict[str, Any], list[Problem]]:  # noqa: ANN401 - TorchX's
    """Return a TorchX ``Resource`` as plain data, and the problems of its unsupported fields."""
    problems: list[Problem] = []
    return _record("", resource, "Resource", problems), problems


def component(name: str) -> Callable[..., Any] | None:
    """Return TorchX's component of that name; None if there is none.

    Raises:
        ComponentNotFoundError: TorchX is not installed.
        InvalidComponentError: the component does not pass TorchX's validation.
        Exception: a module that is registered with TorchX failed.
    """
    if not is_installed():
        what = f"component {name!r} needs TorchX, which is not installed"
        raise ComponentNotFoundError(what, fix=f"Install it: {INSTALL}")
    from torchx.specs import finder

    try:
        found: Callable[..., Any] = finder.get_component(name).fn
    except finder.ComponentNotFoundException:
        return None
    except finder.ComponentValidationException as error:
        what = f"TorchX rejected component {name!r}: {error}"
        raise InvalidComponentError(what) from error
    return found


def component_names() -> list[str]:
    """Return the names of TorchX's components; an empty list if it is not installed.

    Raises:
        Exception: a module that is registered with TorchX failed.
    """
    if not is_installed():
        return []
    from torchx.specs import finder

    return [*finder.get_components()]


def named_resource(name: str) -> Any:  # noqa: ANN401 - TorchX's Resource
    """Return TorchX's resource of that name, which must be one of `resource_names`."""
    from torchx import specs

    return specs.resource(h=name)


def resource_names() -> list[str]:
    """Return the names of TorchX's resources; an empty list if it is not installed."""
    if not is_installed():
        return []
    from torchx import specs

    # TorchX 0.7.0 has no public list of them.
    known: Mapping[str, object] | None = getattr(specs, "_named_resource_factories", None)
    return [*(specs.named_resources if known is None else known)]


def _is_a(value: object, kind: str) -> bool:
    # If such an object exists, its module has been imported.
    cls = getattr(sys.modules.get(_API), kind, None)
    # By type(), not isinstance(): a proxy that fakes __class__ has none of the fields.
    return isinstance(cls, type) and issubclass(type(value), cls)


def _role(path: str, role: object, problems: list[Problem]) -> object:
    if not _is_a(role, "Role"):
        return role
    base: Any = sys.modules[_API].Role
    if getattr(type(role), "pre_proc", None) is not base.pre_proc or "pre_proc" in vars(role):
        what = "it changes TorchX's own launch request, which is not used here"
        fix = "change the role where it is created"
        problems.append(Problem(f"{path}.pre_proc", what, fix))
    data = _record(path, role, "Role", problems)
    if "retry_policy" in data:
        data["retry_policy"] = getattr(data["retry_policy"], "name", data["retry_policy"])
    for name, kind in {"resource": "Resource", "workspace": "Workspace"}.items():
        if name in data and _is_a(data[name], kind):
            data[name] = _record(f"{path}.{name}", data[name], kind, problems)
    if isinstance(mounts := data.get("mounts"), list | tuple):
        data["mounts"] = [
            _mount(f"{path}.mounts[{i}]", mount, problems) for i, mount in enumerate(mounts)
        ]
    return data


def _mount(path: str, mount: object, problems: list[Problem]) -> object:
    for kind, name in _MOUNTS.items():
        if _is_a(mount, kind):
            return {"type": name, **_record(path, mount, kind, problems)}
    return mount


def _record(path: str, value: object, kind: str, problems: list[Problem]) -> dict[str, Any]:
    """Return the fields of a TorchX object that differ from the defaults of its type."""
    known = {field.name: field for field in dataclasses.fields(getattr(sys.modules[_API], kind))}
    data = {}
    for field in dataclasses.fields(value):  # type: ignore[arg-type] # the type is TorchX's
        # Plain access to a role's field calls its override.
        item = object.__getattribute__(value, field.name)
        if _is_default(known.get(field.name, field), item):
            continue
        if field.name in known and field.name not in _UNSUPPORTED:
            data[field.name] = item
            continue
        where = f"{path}.{field.name}" if path else field.name
        fix = _UNSUPPORTED.get(field.name, "use one of TorchX's own fields, or metadata")
        problems.append(Problem(where, "not supported", fix))
    return data


def _is_default(field: dataclasses.Field[Any], item: object) -> bool:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    try:
        return bool(item == default)
    except (TypeError, ValueError):
        # Comparing an array returns an array, which has no truth value. Arrays are never defaults.
        return False
