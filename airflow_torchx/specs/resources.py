"""Resolves named resources like ``gpu.small``: TorchX's if it is installed, else built-in ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from airflow_torchx.errors import ResourceNotFoundError
from airflow_torchx.specs import torchx_compat
from airflow_torchx.specs.accept import as_resource
from airflow_torchx.specs.app import NAME_TAG, NULL_RESOURCE, Resource
from airflow_torchx.specs.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.metadata import EntryPoint

#: Entry points of this group add names; each loads a resource, or a function that returns one.
GROUP: Final = "airflow_torchx.named_resources"

_GIB: Final = 1024
# TorchX's generic names: https://github.com/meta-pytorch/torchx, specs/named_resources_generic.py.
_BUILT_IN: Final = {
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
        h: name of a resource, like ``gpu.small``, which replaces all other arguments.

    Raises:
        ResourceNotFoundError: the name is unknown.
    """
    if h:
        return named_resource(h)
    return Resource(cpu=cpu or 2, gpu=gpu or 0, memMB=memMB or 1024)


def named_resource(name: str) -> Resource:
    """Return a named resource with its name in the tags; the case of the name is ignored.

    Entry points of the group ``airflow_torchx.named_resources`` come first, then TorchX's names if
    it is installed, else its generic ones.

    Raises:
        ResourceNotFoundError: the name is unknown or ambiguous.
        InvalidAppError: an entry point did not provide a resource.
        Exception: an entry point's function failed.
    """
    plugins = _plugins()
    found = _resolve(name, _names(plugins))
    if found in plugins:
        loaded = plugins[found].load()
        resource = as_resource(loaded() if callable(loaded) else loaded)
    elif torchx_compat.is_installed():
        resource = as_resource(torchx_compat.named_resource(found))
    else:
        resource = _BUILT_IN[found]
    if resource == NULL_RESOURCE:
        return resource
    return replace(resource, tags={NAME_TAG: found, **resource.tags})


class NamedResources(Mapping[str, Resource]):
    """Maps the names of all resources to them; see `named_resource`."""

    def __getitem__(self, name: str) -> Resource:
        return named_resource(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_names(_plugins()))

    def __len__(self) -> int:
        return len(_names(_plugins()))


named_resources: Final = NamedResources()


def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _names(plugins: Iterable[str]) -> list[str]:
    return [*dict.fromkeys([*plugins, *(torchx_compat.resource_names() or _BUILT_IN)])]


def _resolve(name: str, names: Sequence[str]) -> str:
    """Return the known name that equals ``name``, exactly or ignoring case."""
    if name in names:
        return name
    matches = [one for one in names if one.casefold() == name.casefold()]
    if len(matches) == 1:
        return matches[0]
    if matches:
        what = f"named resource {name!r} is ambiguous: {', '.join(matches)}"
        raise ResourceNotFoundError(what, fix="Match the case of one of these names.")
    near = nearest(name, names)
    fix = f"Did you mean {near!r}?" if near else f"Known resources: {', '.join(sorted(names))}."
    raise ResourceNotFoundError(f"unknown named resource {name!r}", fix=fix)
