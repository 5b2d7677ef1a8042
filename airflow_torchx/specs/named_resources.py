"""Resources by name, like ``gpu.small``: whoever has TorchX gets its names, else a few of ours."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from airflow_torchx.errors import ComponentError
from airflow_torchx.specs import torchx_compat
from airflow_torchx.specs.accept import as_resource
from airflow_torchx.specs.app import NULL_RESOURCE, Resource
from airflow_torchx.specs.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from importlib.metadata import EntryPoint

#: Entry points of this group add names: each is a function without parameters, or a resource.
GROUP: Final = "airflow_torchx.named_resources"
#: The tag under which TorchX keeps the name of a resource.
NAME_TAG: Final = "torchx/named_resources.name"

_GIB: Final = 1024
# TorchX's generic names: https://github.com/meta-pytorch/torchx, specs/named_resources_generic.py;
# the last two ask for nothing.
_OURS: Final = {
    "gpu.small": Resource(cpu=8, gpu=1, memMB=32 * _GIB),
    "gpu.medium": Resource(cpu=16, gpu=2, memMB=64 * _GIB),
    "gpu.large": Resource(cpu=32, gpu=4, memMB=128 * _GIB),
    "gpu.xlarge": Resource(cpu=64, gpu=8, memMB=256 * _GIB),
    "cpu.nano": Resource(cpu=1, gpu=0, memMB=512),
    "cpu.micro": Resource(cpu=1, gpu=0, memMB=1 * _GIB),
    "cpu.small": Resource(cpu=1, gpu=0, memMB=2 * _GIB),
    "cpu.medium": Resource(cpu=2, gpu=0, memMB=4 * _GIB),
    "cpu.large": Resource(cpu=2, gpu=0, memMB=8 * _GIB),
    "cpu.xlarge": Resource(cpu=8, gpu=0, memMB=32 * _GIB),
    "NULL": NULL_RESOURCE,
    "MISSING": NULL_RESOURCE,
}


def resource(
    cpu: float | None = None,
    gpu: int | None = None,
    memMB: int | None = None,  # noqa: N803 - TorchX's name
    h: str | None = None,
) -> Resource:
    """Return a resource with TorchX's defaults: 2 CPUs, no GPU, 1024 MB.

    Args:
        cpu: CPUs; None and 0 mean the default.
        gpu: number of GPUs.
        memMB: memory in MB; None and 0 mean the default.
        h: name of a resource, like ``gpu.small``, which is taken instead of all that.

    Raises:
        ComponentError: there is no resource of that name.
    """
    if h:
        return named_resource(h)
    return Resource(cpu=cpu or 2, gpu=gpu or 0, memMB=memMB or 1024)


def named_resource(name: str) -> Resource:
    """Return the resource of a name, whatever its case; the name is among its tags.

    Names that entry points of the group ``airflow_torchx.named_resources`` add come first, then
    TorchX's if it is installed, else its generic ones.

    Raises:
        ComponentError: there is no such name, more than one, or what was added is no resource.
        Exception: from the function that makes it.
    """
    added, theirs = _added(), torchx_compat.resource_names()
    found = _written_as(name, [*added, *(theirs or _OURS)])
    if found in added:
        resource = _made(added[found])
    elif theirs:
        resource = as_resource(torchx_compat.named_resource(found))
    else:
        resource = _OURS[found]
    nothing = resource == NULL_RESOURCE
    return resource if nothing else replace(resource, tags={NAME_TAG: found, **resource.tags})


def _added() -> Mapping[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _made(entry: EntryPoint) -> Resource:
    made = entry.load()
    return as_resource(made() if callable(made) else made)


def _written_as(name: str, known: Iterable[str]) -> str:
    """Return the known name that is meant."""
    exact = [*dict.fromkeys(known)]
    if name in exact:
        return name
    alike = [one for one in exact if one.casefold() == name.casefold()]
    if len(alike) == 1:
        return alike[0]
    if alike:
        what = f"named resource {name!r} may be any of {', '.join(alike)}."
        raise ComponentError(what, fix="Write it exactly as one of these.")
    near = nearest(name, exact)
    fix = f"Did you mean {near!r}?" if near else f"Known are: {', '.join(sorted(exact))}."
    raise ComponentError(f"there is no named resource {name!r}.", fix=fix)
