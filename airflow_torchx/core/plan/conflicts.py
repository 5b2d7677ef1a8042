"""Finds run options that take away what the app, the task or another option needs."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.containers import has_own_address
from airflow_torchx.core.plan.checkpoints import CHECKPOINT_DIR, ROOT, is_storage
from airflow_torchx.core.plan.failure_rule import parse_rule
from airflow_torchx.core.plan.job_plan import requested_gpus
from airflow_torchx.core.plan.options import DEFAULT_UPLOAD_S
from airflow_torchx.core.workspace.recipe import FUNCTION_RUNNER, directory
from airflow_torchx.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.core.engine.images import ImageDetail
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.specs import AppDef, Role

#: Networks on which no replica can find another one.
_WITHOUT_NAMES: Final = {
    "bridge": "Docker resolves no names there",
    "default": "Docker resolves no names there",
    "none": "it connects nothing",
    "container:": "all would have the host name of that container",
}
#: File systems in memory that Docker mounts in every container.
_IN_MEMORY: Final = ("/dev", "/proc", "/sys")
#: Log drivers that Docker reads without a cache of its own.
_READABLE: Final = frozenset({"json-file", "local", "journald"})
#: What makes the next character of a pattern mean itself.
_ESCAPE: Final = re.compile(r"\\(?=.)", re.DOTALL)
#: Options that Docker refuses for a container that joins another one's network.
_OF_THE_OWNER: Final = ("dns", "extra_hosts")


def conflicts(app: AppDef, opts: Opts) -> Iterator[Problem]:
    """Yield the conflicts that are seen without the daemon."""
    yield from _network_conflicts(app, opts)
    yield from _log_conflicts(opts)
    yield from _checkpoint_conflicts(app, opts)
    if opts.checkpoint_before_timeout_s is not None and opts.checkpoint_signal is None:
        what = "without checkpoint_signal, no replica is asked to save"
        fix = "set checkpoint_signal='SIGUSR1', or leave this option out"
        yield Problem("options.checkpoint_before_timeout_s", what, fix)
    yield from _role_conflicts(app, opts)
    if requested_gpus(app) and not opts.auto_set_gpus and opts.gpu_driver == "cdi":
        what = "CDI has no request by count, as auto_set_gpus=False makes it"
        yield Problem("options.gpu_driver", what, "leave one of the two options out")
    targets = {posixpath.normpath(path) for path in opts.tmpfs}
    for index, role in enumerate(app.roles):
        for position, mount in enumerate(role.mounts):
            if posixpath.normpath(mount.dst_path) in targets:
                what = f"{mount.dst_path!r} is also in options.tmpfs"
                where = f"roles[{index}].mounts[{position}].dst_path"
                yield Problem(where, what, "remove one of them")
    if opts.working_dir and any(map(is_function, app.roles)):
        what = "the file of the function is in the working directory of the image"
        fix = "remove it, and call os.chdir() in the function"
        yield Problem("options.working_dir", what, fix)


def _role_conflicts(app: AppDef, opts: Opts) -> Iterator[Problem]:
    names = [role.name for role in app.roles]
    for name in opts.essential_roles:
        if name not in names:
            what = f"the app has no role {name!r:.80}"
            yield Problem("options.essential_roles", what, f"use {', '.join(names)}")
    if opts.auxiliary_grace_s is not None and set(names) <= set(opts.essential_roles or names):
        what = "every role of the app is essential"
        fix = "name the essential ones in essential_roles, or use stop_grace_s"
        yield Problem("options.auxiliary_grace_s", what, fix)


def _checkpoint_conflicts(app: AppDef, opts: Opts) -> Iterator[Problem]:
    if opts.checkpoint_interval_s != DEFAULT_UPLOAD_S and not is_storage(opts.checkpoint):
        what = "without a URL as checkpoint, nothing is uploaded"
        yield Problem("options.checkpoint_interval_s", what, "leave it out, or give a URL")
    if opts.checkpoint is None:
        if opts.checkpoint_policy != "fresh":
            what = "without checkpoint, the app has no folder for checkpoints"
            yield Problem("options.checkpoint_policy", what, "set checkpoint, or leave it out")
        return
    for where, env in {"options": opts.env, **_by_role(app, "env")}.items():
        if CHECKPOINT_DIR in env:
            what = f"{CHECKPOINT_DIR} is set by the option checkpoint"
            yield Problem(f"{where}.env", what, "remove it, or leave checkpoint out")
    yield from _over_checkpoints(app, opts)


def upload_problem(opts: Opts, *, uploads: bool) -> Problem | None:
    """Return why checkpoints do not reach their URL; ``uploads`` is whether a process does that."""
    if uploads or not is_storage(opts.checkpoint):
        return None
    what = f"only a task of Airflow that waits for its app uploads to {opts.checkpoint!r}"
    fix = "give the name of a volume of the daemon, or an absolute path on its host"
    return Problem("options.checkpoint", what, fix)


def _over_checkpoints(app: AppDef, opts: Opts) -> Iterator[Problem]:
    for where, mounts in _by_role(app, "mounts").items():
        for position, mount in enumerate(mounts):
            if _is_in(mount.dst_path, ROOT):
                what = f"{mount.dst_path!r} is where the checkpoints are mounted"
                fix = "mount it at another path, or leave checkpoint out"
                yield Problem(f"{where}.mounts[{position}].dst_path", what, fix)
    for path in opts.tmpfs:
        if _is_in(path, ROOT):
            what = f"{path!r} is where the checkpoints are mounted"
            yield Problem("options.tmpfs", what, "use another path")


def _by_role(app: AppDef, field: str) -> dict[str, Any]:
    """Return a field of each role, by where the role is."""
    return {f"roles[{index}]": getattr(role, field) for index, role in enumerate(app.roles)}


def joined(opts: Opts) -> dict[str, str]:
    """Return the containers that an app joins, by the option that names them."""
    values = {"network": opts.network, "ipc_mode": opts.ipc_mode or ""}
    return {
        option: value.removeprefix("container:")
        for option, value in values.items()
        if value.startswith("container:")
    }


def workspace_conflict(role: Role, opts: Opts, image: ImageDetail | None) -> Problem | None:
    """Return what hides the workspace of a role, if its image is known."""
    if not role.workspace or image is None:
        return None
    where = directory(image)
    path = _tmpfs_of(where, opts)
    what = f"{path!r} hides the workspace of role {role.name!r}, which is in {where!r}"
    return Problem("options.tmpfs", what, "use another path") if path else None


def mount_conflicts(where: str, role: Role, image: ImageDetail | None) -> Iterator[Problem]:
    """Yield the mounts that hide the workspace of a role, which is at ``where``."""
    if not role.workspace or image is None:
        return
    folder = directory(image)
    for position, mount in enumerate(role.mounts):
        if _is_in(folder, mount.dst_path):
            what = f"{mount.dst_path!r} hides the workspace in {folder!r}"
            fix = "mount it at another path, or leave the workspace out"
            yield Problem(f"{where}.mounts[{position}].dst_path", what, fix)


def is_function(role: Role) -> bool:
    """Return whether a role runs the file of a function, which is in its workspace."""
    return any(FUNCTION_RUNNER in arg for arg in role.args)


def secret_rules(opts: Opts, is_secret: Callable[[str], bool]) -> tuple[Problem, ...]:
    """Return which failure rules have a secret: they are a label, which every client reads.

    ``is_secret`` returns whether a text has one. The texts are not in the problems.
    """
    found = []
    for index, rule in enumerate(map(parse_rule, opts.failure_rules)):
        if any(map(is_secret, (rule.name, rule.pattern, _ESCAPE.sub("", rule.pattern)))):
            what = "it has a secret, and rules are kept in a label that every client can read"
            fix = "write a pattern that matches another part of the line"
            found.append(Problem(f"options.failure_rules[{index}]", what, fix))
    return tuple(found)


def result_conflict(result_path: str | None, app: AppDef, opts: Opts) -> Problem | None:
    """Return why the result of an app cannot be read when the app has ended."""
    if not result_path:
        return None
    path = _tmpfs_of(result_path, opts)
    if path is None and not _is_mounted(result_path, app):
        path = next((one for one in _IN_MEMORY if _is_in(result_path, one)), None)
    what = f"{result_path!r} is in {path!r}, which is gone when the container ends"
    return Problem("result_path", what, "set result_path= to a path elsewhere") if path else None


def _tmpfs_of(path: str, opts: Opts) -> str | None:
    """Return the tmpfs in which an absolute path is; None for none."""
    return next((one for one in opts.tmpfs if _is_in(path, one)), None)


def _is_mounted(path: str, app: AppDef) -> bool:
    return any(_is_in(path, mount.dst_path) for role in app.roles for mount in role.mounts)


def _is_in(path: str, folder: str) -> bool:
    inside = f"{posixpath.normpath(path)}/"
    return inside.startswith(f"{posixpath.normpath(folder).rstrip('/')}/")


def _network_conflicts(app: AppDef, opts: Opts) -> Iterator[Problem]:
    network, count = opts.network, sum(role.num_replicas for role in app.roles)
    why = _WITHOUT_NAMES.get("container:" if network.startswith("container:") else network)
    if count > 1 and why:
        what = f"{count} replicas do not find each other on {network!r}: {why}"
        yield Problem("options.network", what, "leave it out, or use 'host' or a network of yours")
    if opts.publish_ports and not has_own_address(network) and any(r.port_map for r in app.roles):
        what = f"Docker publishes no ports of a container on network {network!r}"
        yield Problem("options.publish_ports", what, "leave one of the two options out")
    if network.startswith("container:"):
        for name in _OF_THE_OWNER:
            if getattr(opts, name):
                what = f"Docker refuses it for a container on network {network!r}"
                yield Problem(f"options.{name}", what, "set it for that container")


def _log_conflicts(opts: Opts) -> Iterator[Problem]:
    driver, settings = opts.log_config.get("type"), opts.log_config.get("config", {})
    without_cache = settings.get("cache-disabled", "").lower() in ("1", "t", "true")
    if driver == "none":
        what, fix = "Docker keeps no logs, so no task shows them", "use 'local' with max-size"
        yield Problem("options.log_config", what, fix)
    elif driver and driver not in _READABLE and without_cache:
        what = f"Docker cannot read the logs of driver {driver!r} without its cache"
        yield Problem("options.log_config", what, "leave cache-disabled out")
