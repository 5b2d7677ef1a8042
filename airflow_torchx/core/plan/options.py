"""Run options: the parameters of a launch besides the app itself.

``copy_env``, ``env``, ``privileged``, ``image_repo`` and ``quiet`` are TorchX's. Values may be
strings, because templates render to strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Self, cast

from airflow_torchx.core.engine.containers import DEFAULT_STOP_GRACE_S, HostOptions
from airflow_torchx.core.plan import option_values as values
from airflow_torchx.core.plan.failure_rule import merged_rules
from airflow_torchx.core.plan.option_kinds import kind_of
from airflow_torchx.errors import InvalidOptionsError, Problem
from airflow_torchx.specs.frozen import freeze
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.plan.option_kinds import (
        CheckpointPolicy,
        CheckpointSignal,
        FailurePolicy,
        GpuDriver,
        GpuForeign,
        Placement,
        PullPolicy,
    )

DEFAULT_NETWORK: Final = "torchx"
#: Seconds that a save needs, unless the user knows better.
DEFAULT_SAVE_S: Final = 120.0
DEFAULT_UPLOAD_S: Final = 300.0


@dataclass(frozen=True, kw_only=True)
class Opts(Mapping[str, Any]):
    """Run options of the Docker scheduler, also as a mapping of names to values.

    Args:
        copy_env: glob patterns of environment variables to copy from the launching process.
        env: environment variables of every replica; a role's own variables override these.
        privileged: give the containers all privileges of the host (`docker run --privileged`).
        image_repo: repository to push workspace images to, without a tag, which is computed from
            the content; None to push nothing.
        quiet: print one line per build and push of a workspace image.
        build_args: build arguments of a workspace's ``Dockerfile.torchx``. Do not put secrets
            here: Docker stores them in the image's history.
        target: stage of that Dockerfile to build; None for the last.
        build_secrets: secrets for its ``RUN --mount=type=secret``: ``id=NAME,src=PATH`` or
            ``id=NAME,env=VARIABLE``, separated by ``;`` in one string.
        max_context_mb: maximum size of a workspace, in MiB.
        keep_images: how many images of a workspace to keep on the daemon; a build removes older
            ones that no container uses.
        pull_policy: ``missing`` pulls an image that is not on the daemon, ``always`` pulls every
            image, ``if_possible`` too but falls back to the image on the daemon, ``never`` uses
            the image on the daemon.
        network: network that the replicas join, on a swarm by default ``torchx-swarm``; created as
            a bridge, or an overlay on a swarm, which stays, if it is missing.
        stop_grace_s: seconds between SIGTERM and SIGKILL, rounded up to whole seconds.
        checkpoint: where the replicas keep checkpoints: the name of a volume, an absolute path on
            the daemon's host, or in a task a URL of Airflow's object storage. They find their
            folder in ``TORCHX_CHECKPOINT_DIR``. None for none.
        checkpoint_interval_s: seconds between two uploads to that URL.
        checkpoint_policy: ``fresh`` gives each run of a task a folder, which its retries share, and
            a new one after a clear; ``eager`` gives all runs of a task the same.
        checkpoint_signal: signal that asks the replicas to save a checkpoint and end, like
            ``SIGUSR1``, before ``execution_timeout`` and before most stops; None for none.
        checkpoint_before_timeout_s: seconds that a save needs: how long before
            ``execution_timeout`` the signal is sent, and how long a stop waits before SIGTERM. None
            for 120.
        failure_policy: ``fail_fast`` stops the other replicas once one has failed, ``wait_all``
            waits for them.
        failure_rules: what texts in the log of a failed app mean, as ``{"name", "pattern",
            "action"}`` or ``NAME:ACTION:REGEX``; they come before the built-in rules.
        essential_roles: roles whose end is the end of the app. Once they have ended, the others,
            like a parameter server, are stopped; their failures do not count. Empty for all roles.
        auxiliary_grace_s: seconds between SIGTERM and SIGKILL for the other roles; None for
            ``stop_grace_s``.
        stalled_after_s: stop the app, as failed, if for so many seconds no essential replica wrote
            a line, or used a CPU or GPU; None for never.
        progress_pattern: regular expression for log lines that say how far the program is, with the
            groups ``step``, ``total`` and metrics; None for ``TORCHX_PROGRESS_FILE``.
        auto_set_gpus: give every replica GPUs of its own, and wait until enough are free. False
            requests them by count, as TorchX does: then replicas share the first GPUs of the host,
            and the app does not wait.
        gpu_wait_timeout_s: longest time in seconds to wait for GPUs; None for no limit.
        gpu_foreign: ``respect`` leaves GPUs alone that a container of another program requested,
            ``ignore`` does not.
        gpu_driver: ``cdi`` requests GPUs by their CDI names, as MIG devices need; None lets Docker
            choose the driver.
        constraints: nodes of a swarm that the replicas may run on, like
            ``node.labels.gpu==a100``; those of the connection count, too.
        max_replicas_per_node: how many replicas of the app a node runs at most; None for no limit.
        placement: ``pack`` runs all replicas on one node, ``spread`` on as many nodes as have room;
            None leaves it to the swarm.
        pending_timeout_s: longest time in seconds to wait for room on the nodes of a swarm, after
            which the app fails; None for no limit.
        publish_ports: publish the role's ``port_map`` on the host: replica 0 on the same ports, the
            others on free ones.
        user: user name or id in the container, optionally with ``:group``.
        ipc_mode: IPC namespace, like ``host``.
        ulimits: limits in Docker's form, ``name=soft:hard`` or ``name=both``.
        cap_add: Linux capabilities to add.
        init: run a small init as process 1, which reaps zombies and forwards signals.
        extra_hosts: host name to address, for ``/etc/hosts``.
        dns: addresses of name servers.
        log_config: ``{"type": driver, "config": {option: value}}``.
        runtime: OCI runtime, like ``nvidia``.
        security_opt: security options, like ``seccomp=unconfined``.
        tmpfs: path in the container to mount options (may be empty).
        working_dir: working directory, instead of the image's.
        labels: labels to add; the prefixes of TorchX and of this package are reserved.
        trackers: experiment trackers for TorchX's tracker API in the replicas, each with its
            configuration, which may be empty.

    Raises:
        InvalidOptionsError: with one problem for every invalid option.
    """

    copy_env: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    privileged: bool = False
    image_repo: str | None = None
    quiet: bool = False
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    build_secrets: Sequence[str] = ()
    max_context_mb: int = 1024
    keep_images: int = 5
    pull_policy: PullPolicy = "missing"
    network: str = DEFAULT_NETWORK
    stop_grace_s: float = DEFAULT_STOP_GRACE_S
    checkpoint: str | None = None
    checkpoint_interval_s: float = DEFAULT_UPLOAD_S
    checkpoint_policy: CheckpointPolicy = "fresh"
    checkpoint_signal: CheckpointSignal | None = None
    checkpoint_before_timeout_s: float | None = None
    failure_policy: FailurePolicy = "fail_fast"
    failure_rules: Sequence[str] = ()
    essential_roles: Sequence[str] = ()
    auxiliary_grace_s: float | None = None
    stalled_after_s: float | None = None
    progress_pattern: str | None = None
    auto_set_gpus: bool = True
    gpu_wait_timeout_s: float | None = None
    gpu_foreign: GpuForeign = "respect"
    gpu_driver: GpuDriver | None = None
    constraints: Sequence[str] = ()
    max_replicas_per_node: int | None = None
    placement: Placement | None = None
    pending_timeout_s: float | None = None
    publish_ports: bool = False
    user: str | None = None
    ipc_mode: str | None = None
    ulimits: Sequence[str] = ()
    cap_add: Sequence[str] = ()
    init: bool | None = None
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    dns: Sequence[str] = ()
    log_config: Mapping[str, Any] = field(default_factory=dict)
    runtime: str | None = None
    security_opt: Sequence[str] = ()
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    trackers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = []
        for option in fields(self):
            value = getattr(self, option.name)
            try:
                parsed = (
                    default_of(option) if value is None else KINDS[option.name].parse(freeze(value))
                )
            except ValueError as error:
                problems.append(_problem(option.name, value, str(error)))
            else:
                object.__setattr__(self, option.name, freeze(parsed))
        if problems:
            raise InvalidOptionsError(problems, subject="run options")

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - the type of the option
        if (key := snake_case(name)) in self.__dataclass_fields__:
            return getattr(self, key)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.__dataclass_fields__)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """Return both mappings as one dict; ``other`` wins."""
        return {**self, **other}

    @classmethod
    def from_cfg(cls, cfg: Mapping[str, object]) -> Self:
        """Return the options in a mapping; TorchX's name of `parse`."""
        return cls.parse(cfg)

    @classmethod
    def parse(
        cls,
        cfg: Mapping[str, object] | Opts | None,
        defaults: Mapping[str, object] | None = None,
    ) -> Self:
        """Return the options in a mapping, whose names may be in TorchX's camelCase.

        Args:
            cfg: the options; an `Opts` is returned unchanged.
            defaults: defaults for options that are not in ``cfg``; mappings like ``env`` and
                ``labels`` are merged.

        Raises:
            InvalidOptionsError: for unknown names, with the nearest known one, and invalid values.
        """
        if isinstance(cfg, cls):
            return cfg
        given, problems = _named(_merged(_mapping(cfg), defaults or {}))
        try:
            opts = cls(**cast("dict[str, Any]", given))
        except InvalidOptionsError as error:
            problems.extend(error.problems)
        else:
            if not problems:
                return opts
        raise InvalidOptionsError(problems, subject="run options")

    @property
    def save_s(self) -> float | None:
        """The seconds that a save needs; None without a checkpoint signal."""
        if self.checkpoint_signal is None:
            return None
        given = self.checkpoint_before_timeout_s
        return DEFAULT_SAVE_S if given is None else given

    def host_options(self) -> HostOptions:
        """Return the options that are passed to the Engine unchanged."""
        return HostOptions(
            privileged=self.privileged,
            user=self.user,
            ipc_mode=self.ipc_mode,
            ulimits=tuple(values.parse_ulimit(text) for text in self.ulimits),
            cap_add=tuple(self.cap_add),
            init=self.init,
            extra_hosts=self.extra_hosts,
            dns=tuple(self.dns),
            log_driver=self.log_config.get("type"),
            log_options=self.log_config.get("config", {}),
            runtime=self.runtime,
            security_opt=tuple(self.security_opt),
            tmpfs=self.tmpfs,
            working_dir=self.working_dir,
        )


def _named(cfg: Mapping[str, object]) -> tuple[dict[str, object], list[Problem]]:
    """Return options by their names in snake_case, and the problems of their names."""
    names = [option.name for option in fields(Opts)]
    given: dict[str, object] = {}
    problems = []
    for key, value in cfg.items():
        name = snake_case(key)
        if name not in names:
            problems.append(unknown_option(key, names))
        elif name in given and not _is_same(name, given[name], value):
            what = "given twice, in two spellings and with different values"
            problems.append(Problem(f"options.{name}", what, f"use only {name!r}"))
        given.setdefault(name, value)
    return {name: value for name, value in given.items() if name in names}, problems


def unknown_option(key: object, names: Iterable[str]) -> Problem:
    """Return the problem of an option that is not one of these."""
    if snake_case(key) == "gpu_ids":
        what = "a field of the connection, not a run option"
        fix = "set it there, or list the GPUs in node-generic-resources of the daemon"
        return Problem(f"options.{key}", what, fix)
    return Problem(f"options.{key}", "unknown option", suggest(str(key), sorted(names)))


def _is_same(name: str, one: object, other: object) -> bool:
    """Return whether two values of an option mean the same."""
    parse = KINDS[name].parse
    try:
        return one == other or parse(one) == parse(other)
    except ValueError:
        return False


def _mapping(cfg: object) -> Mapping[str, object]:
    if cfg is None or isinstance(cfg, Mapping):
        return cfg or {}
    what = f"a {type(cfg).__name__} is not accepted"
    problem = Problem("options", what, "give a mapping of options to values")
    raise InvalidOptionsError([problem], subject="run options")


def _merged(cfg: Mapping[str, object], defaults: Mapping[str, object]) -> Mapping[str, object]:
    """Return options merged with their defaults."""
    named = {snake_case(key): value for key, value in defaults.items() if value is not None}
    both = {k: v for k, v in cfg.items() if v is not None or snake_case(k) not in named}
    for name, default in named.items():
        for key in [key for key in both if snake_case(key) == name] or [name]:
            own = both.setdefault(key, default)
            if name in TEXT_MAPPINGS and isinstance(own, Mapping) and isinstance(default, Mapping):
                both[key] = {**default, **own}
            if name == "failure_rules":
                both[key] = merged_rules(own, default)
    return both


def snake_case(name: object) -> str:
    """Return the name of an option in snake_case."""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda upper: f"_{upper[1].lower()}", str(name))


def default_of(field: Field[Any]) -> object:
    """Return the default of a field; a field without one has `MISSING`, which equals no value."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _problem(name: str, value: object, expected: str) -> Problem:
    # A mapping, or a value in its place, may contain a secret.
    is_shown = isinstance(value, (str, int, float, list, tuple)) and name not in _SECRET
    if name in {"image_repo", "checkpoint"} and "@" in str(value):  # a password before the host
        is_shown = False
    shown = repr(value) if is_shown else f"a {type(value).__name__}"
    if name in MAPPINGS and isinstance(value, Mapping):
        shown = "an entry"
    return Problem(f"options.{name}", f"{shown} is not accepted", expected)


#: Kinds by the name of the option.
KINDS: Final = {option.name: kind_of(option.name, str(option.type)) for option in fields(Opts)}
#: Options that are mappings.
MAPPINGS: Final = frozenset(name for name, kind in KINDS.items() if kind.type == dict[str, str])
_SECRET: Final = MAPPINGS | {"build_secrets"}
#: Those whose values are texts.
TEXT_MAPPINGS: Final = MAPPINGS - {"log_config"}
