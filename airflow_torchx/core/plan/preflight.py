"""Finds the problems of an app before anything is created."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from airflow_torchx.core.engine.image_refs import is_image
from airflow_torchx.core.plan.conflicts import (
    conflicts,
    is_function,
    joined,
    mount_conflicts,
    workspace_conflict,
)
from airflow_torchx.core.plan.gpu_problems import gpu_problems
from airflow_torchx.core.plan.identity import MAX_REPLICAS
from airflow_torchx.core.plan.option_values import is_env_name, shown_env_name
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.plan.placement import one_node_problems, placement_conflicts
from airflow_torchx.core.plan.swarm_problems import swarm_problems
from airflow_torchx.core.workspace.source import parse_workspace
from airflow_torchx.errors import InvalidAppError, InvalidOptionsError, Problem, WorkspaceError
from airflow_torchx.specs import (
    MISSING,
    NONE,
    BindMount,
    DeviceMount,
    VolumeMount,
    from_dict,
    to_dict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from airflow_torchx.core.engine.containers import EngineInfo
    from airflow_torchx.core.engine.images import ImageDetail
    from airflow_torchx.specs import AppDef, Resource, Role

_Value = TypeVar("_Value")

#: Docker's minimum: https://docs.docker.com/engine/containers/resource_constraints/
MIN_MEMORY_MIB: Final = 6
#: TorchX's value for a resource that is not requested.
_UNSET: Final = -1
_MIN_CPUS: Final = 0.01
_MAX_CPUS: Final = 1_000_000
_MAX_PORT: Final = 65_535


@dataclass(frozen=True, kw_only=True)
class DaemonFacts:
    """What the daemon and its host have for one app.

    Args:
        engine: the daemon.
        images: the app's images by name; None for an image that is not on the daemon.
        absent_paths: bind sources that do not exist; empty for a daemon on another host.
        not_running: containers that the app joins, and that do not run.
        reported_gpus: ids of all GPUs of the daemon; the engine has those to use.
        unlisted_gpus: GPUs to use that are not among those that the daemon reports.
    """

    engine: EngineInfo
    images: Mapping[str, ImageDetail | None] = field(default_factory=dict)
    absent_paths: frozenset[str] = frozenset()
    not_running: frozenset[str] = frozenset()
    reported_gpus: tuple[str, ...] = ()
    unlisted_gpus: tuple[str, ...] = ()

    @property
    def absent_images(self) -> frozenset[str]:
        """The images of the app that are not on the daemon."""
        return frozenset(name for name, found in self.images.items() if found is None)


def preflight(app: AppDef, opts: Opts) -> tuple[Problem, ...]:
    """Return the problems of an app that do not depend on the daemon."""
    return _type_problems(app) or _value_problems(app, opts)


def daemon_problems(app: AppDef, opts: Opts, facts: DaemonFacts) -> tuple[Problem, ...]:
    """Return the problems of an app, without values of wrong types, on this daemon."""
    problems = [
        problem
        for index, role in enumerate(app.roles)
        for problem in _daemon_problems(f"roles[{index}]", role, opts, facts)
    ]
    if facts.engine.is_swarm:
        return (*problems, *swarm_problems(app, opts, facts.engine))
    placed = one_node_problems(app, opts, facts.engine)
    return (*problems, *_option_problems(opts, facts), *gpu_problems(app, opts, facts), *placed)


def daemon_warnings(app: AppDef, facts: DaemonFacts) -> Iterator[str]:
    """Yield what this process cannot find out about the daemon's host, and hidden workspaces."""
    engine = facts.engine
    for index, role in enumerate(app.roles):
        if not is_function(role):  # A folder of the same files may be mounted there.
            found = mount_conflicts(f"roles[{index}]", role, facts.images.get(role.image))
            yield from map(str, found)
    if "unix://" in engine.url and not engine.is_local:
        for index, role in enumerate(app.roles):
            for position, mount in enumerate(role.mounts):
                if isinstance(mount, BindMount):
                    yield (
                        f"roles[{index}].mounts[{position}].src_path: {mount.src_path!r} is not "
                        "checked, because the files of the daemon's host are not visible here"
                    )


def _value_problems(app: AppDef, opts: Opts) -> tuple[Problem, ...]:
    problems = [*_app_problems(app), *conflicts(app, opts), *placement_conflicts(app, opts)]
    if opts.publish_ports:
        problems.extend(_port_problems(app))
    for index, role in enumerate(app.roles):
        where = f"roles[{index}]"
        problems.extend(_role_problems(where, role))
        problems.extend(_resource_problems(f"{where}.resource", role.resource))
        problems.extend(_target_problems(where, role))
        problems.extend(_workspace_problems(where, role))
        for position, mount in enumerate(role.mounts):
            problems.extend(_mount_problems(f"{where}.mounts[{position}]", mount))
    return tuple(problems)


def checked_options(
    app: AppDef,
    cfg: Mapping[str, object] | Opts | None,
    defaults: Mapping[str, object] | None = None,
    *,
    look: Callable[[Opts], DaemonFacts | None] = lambda _: None,
) -> Opts:
    """Return the options in ``cfg`` over their ``defaults``, if they and the app are valid.

    ``look`` returns facts about the daemon, or None if it does not answer. It is called only if
    there are problems, so that the error also has those with the daemon.

    Raises:
        InvalidAppError: with all problems of the app and its options; it is an
            `InvalidOptionsError` if an option is wrong.
    """
    wrong_options: tuple[Problem, ...] = ()
    try:
        opts = Opts.parse(cfg, defaults)
    except InvalidOptionsError as error:
        wrong_options, opts = error.problems, Opts()
    mistyped = _type_problems(app)
    problems = (*wrong_options, *(mistyped or _value_problems(app, opts)))
    if problems and not mistyped and (facts := look(opts)) is not None:
        problems += daemon_problems(app, opts, facts)
    if problems:
        kind = InvalidOptionsError if wrong_options else InvalidAppError
        raise kind(problems, subject=f"app {app.name!r}")
    return opts


def _app_problems(app: AppDef) -> Iterator[Problem]:
    if not _is_name(app.name):
        yield Problem("name", f"{app.name!r} is not a valid name", "use printable characters")
    if not app.roles:
        yield Problem("roles", "the app has no roles", "give it at least one role")
    # Docker's DNS ignores case.
    for name, count in _repeated(role.name.casefold() for role in app.roles):
        what = f"{count} roles are named {name!r}, ignoring case"
        yield Problem("roles", what, "give each its own name")


def _repeated(values: Iterable[_Value]) -> list[tuple[_Value, int]]:
    """Return the values that occur more than once, each with its number."""
    return [(value, count) for value, count in Counter(values).items() if count > 1]


def _type_problems(app: AppDef) -> tuple[Problem, ...]:
    """Return a problem for every value of a wrong type."""
    try:
        from_dict(to_dict(app))
    except InvalidAppError as error:
        return tuple(
            # The value of an environment variable may be a secret.
            Problem(problem.where, "not a string", "give a string")
            if ".env[" in problem.where
            else problem
            for problem in error.problems
        )
    return ()


def _port_problems(app: AppDef) -> Iterator[Problem]:
    for port, count in _repeated(port for role in app.roles for port in role.port_map.values()):
        what = f"port {port} is published {count} times"
        yield Problem("roles", what, "give each its own port, or set publish_ports=False")


def _role_problems(where: str, role: Role) -> Iterator[Problem]:
    if not _is_name(role.name) or "/" in role.name:
        what = f"{role.name!r} is not a valid name"
        yield Problem(f"{where}.name", what, "use printable characters without a slash")
    if role.image in ("", MISSING, NONE):
        yield Problem(f"{where}.image", "no image is given", "set image=, or the image of the role")
    elif not is_image(role.image):
        what = f"{_without_login(role.image)!r} is not a valid image name"
        fix = "write it like 'registry.example.com:5000/team/image:tag', in lower case"
        yield Problem(f"{where}.image", what, fix)
    if role.entrypoint in ("", MISSING):
        what = "no entrypoint is given"
        yield Problem(f"{where}.entrypoint", what, "name the program to run")
    if not 1 <= role.num_replicas <= MAX_REPLICAS:
        what = f"{role.num_replicas} replicas are not possible"
        yield Problem(f"{where}.num_replicas", what, f"choose from 1 to {MAX_REPLICAS}")
    elif role.min_replicas is not None and not 1 <= role.min_replicas <= role.num_replicas:
        what = f"{role.min_replicas} is not a minimum of {role.num_replicas} replicas"
        fix = f"choose from 1 to {role.num_replicas}"
        yield Problem(f"{where}.min_replicas", what, fix)
    if role.max_retries < 0:
        yield Problem(f"{where}.max_retries", f"{role.max_retries} is negative", "use 0 or more")
    yield from _text_problems(where, role)


def _target_problems(where: str, role: Role) -> Iterator[Problem]:
    for path, count in _repeated(mount.dst_path for mount in role.mounts):
        what = f"{count} mounts have the dst_path {path!r}"
        yield Problem(f"{where}.mounts", what, "give each its own dst_path")


def _workspace_problems(where: str, role: Role) -> Iterator[Problem]:
    try:
        parse_workspace(role.workspace)
    except WorkspaceError as error:
        yield Problem(f"{where}.workspace", error.what.rstrip("."), error.fix)


def _text_problems(where: str, role: Role) -> Iterator[Problem]:
    """Yield a problem for zero bytes, invalid names of variables and invalid ports."""
    texts = {"entrypoint": role.entrypoint}
    texts |= {f"args[{index}]": arg for index, arg in enumerate(role.args)}
    for name, text in texts.items():
        if "\0" in text:
            yield Problem(f"{where}.{name}", "contains a zero byte", "remove it")
    for name, value in role.env.items():
        if not is_env_name(name) or "\0" in value:
            what = f"{shown_env_name(name)!r} is not a valid environment variable"
            yield Problem(f"{where}.env", what, "remove '=' from its name, and zero bytes")
    for name, port in role.port_map.items():
        if not 1 <= port <= _MAX_PORT:
            what = f"{port} is not a port number"
            yield Problem(f"{where}.port_map.{name}", what, f"choose from 1 to {_MAX_PORT}")


def _resource_problems(where: str, resource: Resource) -> Iterator[Problem]:
    for name in ("cpu", "gpu", "memMB"):
        if (value := getattr(resource, name)) < 0 and value != _UNSET:
            fix = f"use 0 or more, or {_UNSET} to leave it unset"
            yield Problem(f"{where}.{name}", f"{value} is negative", fix)
    if 0 < resource.memMB < MIN_MEMORY_MIB:
        what = f"{resource.memMB} MB is below Docker's minimum"
        yield Problem(f"{where}.memMB", what, f"give {MIN_MEMORY_MIB} MB or more, 0 for no limit")
    if resource.cpu > _MAX_CPUS:
        what = f"{resource.cpu:g} CPUs are more than any host has"
        yield Problem(f"{where}.cpu", what, f"give {_MAX_CPUS} at most, 0 for no limit")
    if 0 < resource.cpu < _MIN_CPUS:
        what = f"{resource.cpu} CPUs is below Docker's minimum"
        yield Problem(f"{where}.cpu", what, f"give {_MIN_CPUS} or more, 0 for no limit")


def _mount_problems(where: str, mount: BindMount | VolumeMount | DeviceMount) -> Iterator[Problem]:
    if not posixpath.isabs(mount.dst_path):
        what = f"{mount.dst_path!r} is not an absolute path"
        yield Problem(f"{where}.dst_path", what, "start it with a slash")
    if isinstance(mount, DeviceMount) and not re.fullmatch("[rwm]+", mount.permissions):
        what = f"{mount.permissions!r} is not a valid permission"
        yield Problem(f"{where}.permissions", what, "use only the letters r, w and m")
    if isinstance(mount, VolumeMount):
        if not mount.src:
            yield Problem(f"{where}.src", "no volume is named", "name a volume of the daemon")
    elif not posixpath.isabs(mount.src_path):
        what = f"{mount.src_path!r} is not an absolute path"
        yield Problem(f"{where}.src_path", what, "start it with a slash")


def _daemon_problems(where: str, role: Role, opts: Opts, facts: DaemonFacts) -> Iterator[Problem]:
    engine = facts.engine
    # A node of a swarm that is away for now may be larger than those that are there.
    if role.resource.cpu > engine.cpus and not engine.is_swarm:
        what = f"{role.resource.cpu} CPUs are more than the {engine.cpus} of {engine.url}"
        yield Problem(f"{where}.resource.cpu", what, f"request at most {engine.cpus}")
    if opts.pull_policy == "never" and role.image in facts.absent_images:
        what = f"{role.image!r} is not on {engine.url}, and pull_policy is 'never'"
        yield Problem(f"{where}.image", what, "load the image, or set pull_policy='missing'")
    if hidden := workspace_conflict(role, opts, facts.images.get(role.image)):
        yield hidden
    if is_function(role):
        yield from mount_conflicts(where, role, facts.images.get(role.image))
    for position, mount in enumerate(role.mounts):
        if isinstance(mount, BindMount) and mount.src_path in facts.absent_paths:
            what = f"{mount.src_path!r} does not exist on this host"
            yield Problem(f"{where}.mounts[{position}].src_path", what, "create it first")


def _option_problems(opts: Opts, facts: DaemonFacts) -> Iterator[Problem]:
    engine = facts.engine
    if opts.checkpoint in facts.absent_paths:
        what = f"{opts.checkpoint!r} does not exist on this host"
        yield Problem("options.checkpoint", what, "create it first")
    for option, container in joined(opts).items():
        if container in facts.not_running:
            what = f"no container {container!r} is running on {engine.url}"
            yield Problem(f"options.{option}", what, "correct its name, or start it first")
    # Some daemons take runtimes that they do not list, by the names of containerd or by path.
    is_listed = opts.runtime in (None, *engine.runtimes) or re.search("[./]", str(opts.runtime))
    if engine.runtimes and not is_listed:
        what = f"{engine.url} has no runtime {opts.runtime!r}"
        fix = f"use one of {', '.join(engine.runtimes)}, or install it on the daemon's host"
        yield Problem("options.runtime", what, fix)


def _without_login(image: str) -> str:
    """Return an image name without a user and password in front of its host."""
    return re.sub(r"^.*:[^/@]*@(?=[^/]*/)", "…@", image, flags=re.DOTALL)


def _is_name(text: str) -> bool:
    return bool(text.strip()) and text.isprintable()
