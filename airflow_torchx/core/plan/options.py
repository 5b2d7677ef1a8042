"""Run options: what a user may say about a launch beyond the app itself.

``copy_env``, ``env``, ``privileged``, ``image_repo`` and ``quiet`` are TorchX's; the others are
ours. Values may be strings, because a template renders to one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast

from airflow_torchx.core.engine.containers import DEFAULT_STOP_GRACE_S, HostOptions
from airflow_torchx.core.plan import option_values as values
from airflow_torchx.errors import InvalidAppError, Problem
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PullPolicy = Literal["always", "if_possible", "missing", "never"]
FailurePolicy = Literal["fail_fast", "wait_all"]

DEFAULT_NETWORK: Final = "torchx"


@dataclass(frozen=True, kw_only=True)
class Opts:
    """Run options of the Docker scheduler.

    Args:
        copy_env: glob patterns of environment variables to copy from the launching process.
        env: environment variables of every replica; a role's own win over these.
        privileged: give the containers all privileges of the host (`docker run --privileged`).
        image_repo: repository that workspace images are pushed to, without a tag: the tag is made
            of what is in the image. None pushes nothing.
        quiet: one line each while a workspace image is built and pushed.
        build_args: build arguments of a workspace's own ``Dockerfile.torchx``; they are no secrets,
            Docker writes them into the image's history.
        target: stage of that Dockerfile to build; None for the last.
        build_secrets: what its ``RUN --mount=type=secret`` sees: ``id=NAME,src=PATH`` or
            ``id=NAME,env=VARIABLE``, separated by ``;`` if it is one text.
        max_context_mb: MiB that a workspace may have.
        keep_images: images of a workspace that stay on the daemon, the newest; older ones are
            removed when a new one is built, unless a container uses them.
        pull_policy: ``missing`` pulls an image that is not on the daemon, ``always`` pulls it
            first, ``if_possible`` does that too and takes what is there when it fails, ``never``
            takes what is there.
        network: network the replicas join; created as a bridge when it is missing.
        stop_grace_s: seconds between SIGTERM and SIGKILL; parts of a second are rounded up.
        failure_policy: ``fail_fast`` stops the other replicas once one is lost, ``wait_all``
            lets them end by themselves.
        auto_set_gpus: give every replica GPUs of its own where the daemon tells their ids.
        publish_ports: publish the role's ``port_map`` on the host: replica 0 under the same
            number, the others under a free one.
        user: user name or id, with ``:group`` if wanted, that runs in the container.
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
        labels: labels to add; not with TorchX's prefix or ours.

    Raises:
        InvalidAppError: with one problem for every option that has a wrong value.
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
    failure_policy: FailurePolicy = "fail_fast"
    auto_set_gpus: bool = True
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

    def __post_init__(self) -> None:
        problems = []
        for option in fields(self):
            value = getattr(self, option.name)
            try:
                parsed = _default(option) if value is None else _PARSERS[option.name](value)
            except ValueError as wrong:
                problems.append(_problem(option.name, value, str(wrong)))
            else:
                object.__setattr__(self, option.name, parsed)
        if problems:
            raise InvalidAppError(problems, subject="run options")

    @classmethod
    def parse(
        cls,
        cfg: Mapping[str, object] | Opts | None,
        defaults: Mapping[str, object] | None = None,
    ) -> Self:
        """Return the options that a plain mapping means; TorchX's camelCase names are accepted.

        Args:
            cfg: the options; an `Opts` is returned as it is.
            defaults: what counts where ``cfg`` says nothing; of mappings, like ``env`` and
                ``labels``, each key counts by itself.

        Raises:
            InvalidAppError: for unknown names, with the nearest known one, and for wrong values.
        """
        if isinstance(cfg, cls):
            return cfg
        names = {option.name for option in fields(cls)}
        given: dict[str, object] = {}
        problems = []
        written = _over(_mapping(cfg), defaults or {})
        for key, value in written.items():
            name = snake_case(key)
            if name in given:
                what, fix = "it is given twice, in two spellings", f"write {name!r} only"
                problems.append(Problem(f"options.{name}", what, fix))
            elif name in names:
                given[name] = value
            else:
                what, fix = "there is no such option", suggest(str(key), sorted(names))
                problems.append(Problem(f"options.{key}", what, fix))
        try:
            opts = cls(**cast("dict[str, Any]", given))
        except InvalidAppError as wrong:
            problems.extend(wrong.problems)
        else:
            if not problems:
                return opts
        raise InvalidAppError(problems, subject="run options")

    def host_options(self) -> HostOptions:
        """Return the part that goes to the Engine as it is."""
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


def _mapping(cfg: object) -> Mapping[str, object]:
    if cfg is None or isinstance(cfg, Mapping):
        return cfg or {}
    what = f"a {type(cfg).__name__} is not accepted"
    problem = Problem("options", what, "give a mapping of options to values")
    raise InvalidAppError([problem], subject="run options")


def _over(cfg: Mapping[str, object], defaults: Mapping[str, object]) -> Mapping[str, object]:
    """Return options over those that count where they say nothing."""
    named = {snake_case(key): value for key, value in defaults.items() if value is not None}
    both = {k: v for k, v in cfg.items() if v is not None or snake_case(k) not in named}
    spelled = {snake_case(key): key for key in both}
    for name, default in named.items():
        key = spelled.get(name, name)
        own = both.setdefault(key, default)
        if name in _MERGED and isinstance(own, Mapping) and isinstance(default, Mapping):
            both[key] = {**default, **own}
    return both


def snake_case(name: object) -> str:
    """Return the name of an option that TorchX may have written in camelCase."""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda upper: f"_{upper[1].lower()}", str(name))


def _default(option: Field[Any]) -> object:
    if option.default_factory is not MISSING:
        return option.default_factory()
    return option.default


def _problem(name: str, value: object, expected: str) -> Problem:
    # A mapping, or what should have been one, may hold a secret: say its type, not its text. So may
    # a secret of a build that was written in another form.
    plain = isinstance(value, (str, int, float, list, tuple)) and name not in _UNSHOWN
    if name == "image_repo" and "@" in str(value):  # a login in front of the host
        plain = False
    shown = repr(value) if plain else f"a {type(value).__name__}"
    return Problem(f"options.{name}", f"{shown} is not accepted", expected)


#: Options that are mappings.
MAPPINGS: Final = frozenset({"env", "build_args", "extra_hosts", "log_config", "tmpfs", "labels"})
_UNSHOWN: Final = MAPPINGS | {"build_secrets"}
_MERGED: Final = MAPPINGS - {"log_config"}
_PARSERS: Final[Mapping[str, Callable[[object], object]]] = {
    "copy_env": values.texts,
    "env": values.env,
    "privileged": values.flag,
    "image_repo": values.repository,
    "quiet": values.flag,
    "build_args": values.env,
    "target": values.text,
    "build_secrets": values.build_secrets,
    "max_context_mb": values.count,
    "keep_images": values.count,
    "pull_policy": values.one_of("always", "if_possible", "missing", "never"),
    "network": values.network,
    "stop_grace_s": values.seconds,
    "failure_policy": values.one_of("fail_fast", "wait_all"),
    "auto_set_gpus": values.flag,
    "publish_ports": values.flag,
    "user": values.text,
    "ipc_mode": values.text,
    "ulimits": values.ulimits,
    "cap_add": values.texts,
    "init": values.flag,
    "extra_hosts": values.pairs,
    "dns": values.texts,
    "log_config": values.log_config,
    "runtime": values.text,
    "security_opt": values.texts,
    "tmpfs": values.pairs,
    "working_dir": values.text,
    "labels": values.labels,
}
