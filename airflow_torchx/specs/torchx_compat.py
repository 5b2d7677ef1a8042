"""TorchX's own objects and registries, where it is installed: nothing else here imports it.

What is read becomes plain data in the form of `specs.to_dict`; `specs` makes its own types of it.
Works with TorchX 0.7.0 and with what came after it.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.errors import ComponentError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: How to get TorchX.
INSTALL: Final = "pip install 'airflow-torchx[torchx]'"

_API: Final = "torchx.specs.api"
_MOUNTS: Final = {"BindMount": "bind", "VolumeMount": "volume", "DeviceMount": "device"}
#: Fields of TorchX's own types that no Docker scheduler can keep, and what to do instead.
_REFUSED: Final = {
    "base_image": "remove it, TorchX does not read it either",
    "overrides": "set the fields themselves: nothing here waits for a value",
}


def is_installed() -> bool:
    """Tell whether TorchX can be imported; does not import it."""
    if "torchx" in sys.modules:
        return True
    # A folder that only has the name, like one for DAGs, has no origin.
    spec = importlib.util.find_spec("torchx")
    return spec is not None and spec.origin is not None


def is_app(value: object) -> bool:
    """Tell whether a value is TorchX's ``AppDef``; does not import TorchX."""
    return _is_a(value, "AppDef")


def is_resource(value: object) -> bool:
    """Tell whether a value is TorchX's ``Resource``; does not import TorchX."""
    return _is_a(value, "Resource")


def app_data(app: Any) -> tuple[dict[str, Any], list[Problem]]:  # noqa: ANN401 - TorchX's AppDef
    """Return an app of TorchX's as plain data, and what of it cannot be kept.

    Fields with TorchX's default are left out: ours has the same. The app is not changed, and no
    code of it runs.

    Args:
        app: what `is_app`.
    """
    problems: list[Problem] = []
    data = _record("", app, "AppDef", problems)
    if isinstance(roles := data.get("roles"), list | tuple):
        data["roles"] = [_role(f"roles[{i}]", role, problems) for i, role in enumerate(roles)]
    return data, problems


def resource_data(resource: Any) -> tuple[dict[str, Any], list[Problem]]:  # noqa: ANN401 - TorchX's
    """Return a resource of TorchX's as plain data, and what of it cannot be kept."""
    problems: list[Problem] = []
    return _record("", resource, "Resource", problems), problems


def component(name: str) -> Callable[..., Any] | None:
    """Return the component that TorchX knows by this name; None if it knows none.

    Raises:
        ComponentError: TorchX is not installed, or finds the component faulty.
        Exception: from modules that are registered with TorchX.
    """
    _ensure_installed(f"component {name!r} is one of TorchX's")
    from torchx.specs import finder

    try:
        found: Callable[..., Any] = finder.get_component(name).fn
    except finder.ComponentNotFoundException:
        return None
    except finder.ComponentValidationException as why:
        raise ComponentError(f"TorchX refuses component {name!r}: {why}") from why
    return found


def component_names() -> list[str]:
    """Return the names of all components that TorchX knows; none if it is not installed.

    Raises:
        Exception: from modules that are registered with TorchX.
    """
    if not is_installed():
        return []
    from torchx.specs import finder

    return [*finder.get_components()]


def named_resource(name: str) -> Any:  # noqa: ANN401 - TorchX's Resource
    """Return TorchX's resource of that name, one of `resource_names`, exactly as written."""
    from torchx import specs

    return specs.resource(h=name)


def resource_names() -> list[str]:
    """Return the names of all resources that TorchX knows; none if it is not installed."""
    if not is_installed():
        return []
    from torchx import specs

    # TorchX 0.7.0 lists them nowhere else.
    known: Mapping[str, object] | None = getattr(specs, "_named_resource_factories", None)
    return [*(specs.named_resources if known is None else known)]


def _ensure_installed(why: str) -> None:
    if not is_installed():
        raise ComponentError(f"{why}, and TorchX is not installed.", fix=f"Install it: {INSTALL}")


def _is_a(value: object, kind: str) -> bool:
    # Whoever holds such an object has imported its module.
    wanted = getattr(sys.modules.get(_API), kind, None)
    # By its type: what only pretends to be such an object has none of its fields.
    return isinstance(wanted, type) and issubclass(type(value), wanted)


def _role(path: str, role: object, problems: list[Problem]) -> object:
    if not _is_a(role, "Role"):
        return role
    plain: Any = sys.modules[_API].Role
    if getattr(type(role), "pre_proc", None) is not plain.pre_proc or "pre_proc" in vars(role):
        what = "it would change TorchX's own request, and there is none"
        fix = "change the role where it is made"
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
    """Return the fields of one of TorchX's objects that differ from the defaults of its type."""
    own = {field.name: field for field in dataclasses.fields(getattr(sys.modules[_API], kind))}
    data = {}
    for field in dataclasses.fields(value):  # type: ignore[arg-type] # the type is TorchX's
        # Of a role, its overrides would be called by plain access.
        item = object.__getattribute__(value, field.name)
        if _is_default(own.get(field.name, field), item):
            continue
        if field.name in own and field.name not in _REFUSED:
            data[field.name] = item
            continue
        where = f"{path}.{field.name}" if path else field.name
        fix = _REFUSED.get(field.name, "use a field of TorchX's own, or metadata")
        problems.append(Problem(where, "it has no meaning here", fix))
    return data


def _is_default(field: dataclasses.Field[Any], item: object) -> bool:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    try:
        return bool(item == default)
    except (TypeError, ValueError):
        # An array has no truth of its own, and is no default.
        return False
