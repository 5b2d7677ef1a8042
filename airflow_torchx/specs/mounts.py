"""Parses mounts in TorchX's notation, which resembles `docker run --mount`."""

from __future__ import annotations

import os.path
from typing import TYPE_CHECKING, Final

from airflow_torchx.errors import InvalidAppError, Problem
from airflow_torchx.specs.app import BindMount, DeviceMount, VolumeMount
from airflow_torchx.specs.readers import FLAGS
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Mount = BindMount | VolumeMount | DeviceMount

_KEYS: Final = {
    "type": "type",
    "destination": "dst",
    "dst": "dst",
    "target": "dst",
    "read_only": "readonly",
    "readonly": "readonly",
    "source": "src",
    "src": "src",
    "perm": "perm",
}
#: Values of keys that are written without one.
_BARE: Final = {"readonly": "true"}
#: Required keys of each mount type, with an example.
_REQUIRED: Final = {
    "bind": {"src": "src=/on/the/host", "dst": "dst=/in/the/container"},
    "volume": {"src": "src=name-of-the-volume", "dst": "dst=/in/the/container"},
    "device": {"src": "src=/dev/name"},
}


def parse_mounts(opts: Iterable[str] | str) -> list[Mount]:
    """Return the mounts that ``opts`` describe.

    Each mount begins with its type: ``type=bind,src=/host,dst=/job,readonly``,
    ``type=volume,src=name,dst=/job,readonly`` or ``type=device,src=/dev/x,dst=/dev/y,perm=rw``.
    ``readonly=false`` is the default; TorchX reads it as ``readonly``.
    A leading ``~`` in a bind's source is this process's home folder.

    Args:
        opts: the options of all mounts, each a ``key=value`` or a ``key``; one string has several,
            separated by commas.

    Raises:
        InvalidAppError: options are invalid or missing; one problem each.
    """
    drafts, problems = _split(opts)
    problems += [problem for draft in drafts for problem in _check(draft)]
    if problems:
        raise InvalidAppError(problems)
    return [_build(_options(draft)) for draft in drafts]


def _split(opts: Iterable[str] | str) -> tuple[list[list[str]], list[Problem]]:
    """Return the options of each mount, and the problems of those that belong to none."""
    drafts: list[list[str]] = []
    problems: list[Problem] = []
    for opt in map(str, opts.split(",") if isinstance(opts, str) else opts):
        name = opt.partition("=")[0]
        key = _KEYS.get(name)
        if key is None:
            problems.append(Problem("mounts", f"unknown option {opt!r}", suggest(name, _KEYS)))
        elif key != "type" and not drafts:
            what = f"option {opt!r} comes before any type"
            problems.append(Problem("mounts", what, "begin each mount with its type: type=bind"))
        elif key == "type":
            drafts.append([opt])
        else:
            drafts[-1].append(opt)
    return drafts, problems


def _options(draft: list[str]) -> dict[str, str]:
    return {
        _KEYS[name]: value if is_set else _BARE.get(_KEYS[name], "")
        for name, is_set, value in (opt.partition("=") for opt in draft)
    }


def _check(draft: list[str]) -> list[Problem]:
    options = _options(draft)
    where, kind = f"mounts {','.join(draft)!r}", options["type"]
    if kind not in _REQUIRED:
        return [Problem(where, f"unknown type {kind!r}", suggest(kind, _REQUIRED))]
    problems = [
        Problem(where, f"{key} is missing", f"add {example}")
        for key, example in _REQUIRED[kind].items()
        if not options.get(key)
    ]
    if (word := options.get("readonly", "false")).lower() not in FLAGS:
        problems.append(Problem(where, f"invalid readonly={word}", "write true or false"))
    permissions = options.get("perm", "rwm")
    if kind == "device" and (not permissions or set(permissions) - set("rwm")):
        what = f"invalid permissions perm={permissions}"
        problems.append(Problem(where, what, "combine r (read), w (write) and m (mknod)"))
    return problems


def _build(options: Mapping[str, str]) -> Mount:
    src = options["src"]
    dst = options.get("dst") or src
    read_only = FLAGS[options.get("readonly", "false").lower()]
    if options["type"] == "bind":
        # Path.expanduser() raises for an unknown ~user and drops a trailing slash.
        src = os.path.expanduser(src)  # noqa: PTH111 - see above
        return BindMount(src_path=src, dst_path=dst, read_only=read_only)
    if options["type"] == "volume":
        return VolumeMount(src=src, dst_path=dst, read_only=read_only)
    return DeviceMount(src_path=src, dst_path=dst, permissions=options.get("perm", "rwm"))
