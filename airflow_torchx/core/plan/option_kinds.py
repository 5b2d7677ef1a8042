"""What values each run option takes, by its type or its own parser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from airflow_torchx.core.plan import option_values as values
from airflow_torchx.core.plan.failure_rule import failure_rules
from airflow_torchx.core.plan.placement import constraints
from airflow_torchx.core.plan.progress import progress_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PullPolicy = Literal["always", "if_possible", "missing", "never"]
FailurePolicy = Literal["fail_fast", "wait_all"]
GpuForeign = Literal["respect", "ignore"]
GpuDriver = Literal["cdi"]
CheckpointPolicy = Literal["fresh", "eager"]
# Programs can handle them, and Docker does not stop a container by them.
CheckpointSignal = Literal["SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT", "SIGQUIT"]
Placement = Literal["pack", "spread"]


class Kind(NamedTuple):
    """Describes the values of an option.

    Args:
        parse: returns a value as one of this kind, or raises ValueError with what to write.
        type: its type in TorchX's words.
        form: how it is written on a command line.
    """

    parse: Callable[[object], object]
    type: object
    form: str


def _choice(words: object) -> Kind:
    choices = get_args(words)
    return Kind(values.one_of(*choices), str, "|".join(choices))


#: Kinds by the type of the field.
_KINDS: Final = {
    "bool": Kind(values.flag, bool, "true|false"),
    "int": Kind(values.count, int, "NUMBER"),
    "float": Kind(values.seconds, float, "NUMBER"),
    "str": Kind(values.text, str, "TEXT"),
    "PullPolicy": _choice(PullPolicy),
    "FailurePolicy": _choice(FailurePolicy),
    "GpuForeign": _choice(GpuForeign),
    "GpuDriver": _choice(GpuDriver),
    "CheckpointPolicy": _choice(CheckpointPolicy),
    "CheckpointSignal": _choice(CheckpointSignal),
    "Placement": _choice(Placement),
    "Sequence[str]": Kind(values.texts, list[str], "A;B"),
    "Mapping[str, str]": Kind(values.pairs, dict[str, str], "KEY:VALUE;KEY2:VALUE2"),
    "Mapping[str, Any]": Kind(values.log_config, dict[str, str], "type:DRIVER;OPTION:VALUE"),
}
_OWN_PARSERS: Final[Mapping[str, Callable[[object], object]]] = {
    "env": values.env,
    "failure_rules": failure_rules,
    "stalled_after_s": values.positive_seconds,
    "progress_pattern": progress_pattern,
    "image_repo": values.repository,
    "build_args": values.env,
    "build_secrets": values.build_secrets,
    "checkpoint": values.checkpoint,
    "checkpoint_interval_s": values.positive_seconds,
    "network": values.network,
    "user": values.user,
    "ulimits": values.ulimits,
    "labels": values.labels,
    "trackers": values.trackers,
    "ipc_mode": values.ipc_mode,
    "cap_add": values.cap_add,
    "extra_hosts": values.extra_hosts,
    "dns": values.dns,
    "security_opt": values.security_opt,
    "tmpfs": values.tmpfs,
    "working_dir": values.working_dir,
    "constraints": constraints,
}


def kind_of(name: str, annotation: str) -> Kind:
    """Return the kind of an option by its name and the text of its type."""
    kind = _KINDS[annotation.removesuffix(" | None")]
    return kind._replace(parse=_OWN_PARSERS.get(name, kind.parse))
