"""Renders a plan as YAML, with secrets masked."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.plan.options import MAPPINGS, default_of
from airflow_torchx.core.plan.redact import MASK, proxy_secrets, redact
from airflow_torchx.specs import to_dict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_torchx.core.plan.job_plan import JobPlan
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.specs import AppDef

# Longer values are cut, because the plan is printed to the task's log.
_MAX_VALUE: Final = 1000
_SENSITIVE: Final = re.compile(
    r"passw(or)?d|passphrase|^airflow_conn_"
    r"|(^|_)(pass|pwd|secrets?|tokens?|apikey|(api|access|private|secret|fernet)_?key"
    r"|credentials?|authorization)($|_)",
    re.IGNORECASE,
)
#: ``PWD`` and ``OLDPWD`` are folders.
_PLAIN: Final = frozenset({"PWD"})
#: A password in a URL, like in DATABASE_URL. Matching the scheme, too, took hours on a value of
#: 100 KB without a URL.
_IN_URL: Final = re.compile(r"://[^\s/?#:@]*:([^\s/?#@]+)@")


def is_sensitive(name: str) -> bool:
    """Return whether a variable, an option or a label of this name probably has a secret value."""
    return name not in _PLAIN and _SENSITIVE.search(re.sub(r"[.\-/]", "_", name)) is not None


def secret_values(plan: JobPlan) -> frozenset[str]:
    """Return the values in a plan that must not be shown."""
    found = set(env_secrets(plan))
    for spec in plan.containers:
        for named in (spec.labels, spec.host.log_options):
            found |= _secrets_in(named)
    return frozenset(found)


def env_secrets(plan: JobPlan) -> frozenset[str]:
    """Return the values in the environments of a plan that must not be shown."""
    found: set[str] = set()
    for spec in plan.containers:
        found |= proxy_secrets(spec.env) | _secrets_in(spec.env)
        found |= {spec.env[name] for name in plan.secret_env & spec.env.keys()}
    return frozenset(found)


def _secrets_in(named: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    for name, value in named.items():
        found.update([value] if is_sensitive(name) else _IN_URL.findall(value))
    return found


def render(plan: JobPlan) -> str:
    """Return the plan as YAML, without defaults.

    Of each role's first replica it has everything, of the others what differs, and of those that
    differ only by their index the first.
    """
    import yaml

    data = shown(plan)
    data["containers"] = _abridged(data["containers"])
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def shown(plan: JobPlan) -> dict[str, Any]:
    """Return the plan as JSON data, with one entry per container, without defaults."""
    gpus = plan.own_gpus
    data = {
        "app_id": plan.app_id,
        "handle": plan.handle,
        "network": plan.network,
        "pull_policy": plan.pull_policy,
        **({"gpus": f"{gpus} in total; the launch chooses their ids"} if gpus else {}),
        **({"warnings": list(plan.warnings)} if plan.warnings else {}),
        **({"workspaces": list(plan.workspaces)} if plan.workspaces else {}),
        "containers": [_plain(spec) for spec in plan.containers],
    }
    for container in data["containers"]:
        container["env"] = {
            name: MASK if name in plan.secret_env or is_sensitive(name) else value
            for name, value in container.get("env", {}).items()
        }
    masked: dict[str, Any] = _masked(data, secret_values(plan))
    for container in masked["containers"]:
        for name, value in container["env"].items():
            if len(value) > _MAX_VALUE:
                container["env"][name] = f"{value[:_MAX_VALUE]}… ({len(value)} characters)"
    return masked


def shown_app(app: AppDef, plan: JobPlan) -> dict[str, Any]:
    """Return an app as JSON data, without the secrets in its plan."""
    data = to_dict(app)
    for role in data["roles"]:
        role["env"] = _without_secrets(role["env"])
    return dict(_masked(data, secret_values(plan)))


def shown_options(opts: Opts, plan: JobPlan) -> dict[str, Any]:
    """Return all run options as JSON data, without the secrets in the plan."""
    data = {option.name: _plain(getattr(opts, option.name)) for option in fields(opts)}
    for name in MAPPINGS:
        data[name] = _without_secrets(data[name])
    return dict(_masked(data, secret_values(plan)))


def _abridged(containers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return containers that differ from the one before by their index only as one entry."""
    firsts: dict[str, Mapping[str, Any]] = {}
    found: list[dict[str, Any]] = []
    shape, begin = "", 0
    for container in containers:
        role, index = container["role"], container["replica"]
        first = firsts.setdefault(role, container)
        other = _difference(first, container)
        own_index = re.compile(rf"\b{index}\b")
        last, shape = shape, own_index.sub("#", f"{role} {other}")
        if first is container:
            found.append(dict(container))
        elif shape != last:
            begin = index
            like = f"{role}/{first['replica']}"
            found.append({"role": role, "replica": index, "like": like} | other)
        elif "name" in found[-1]:
            like = f"{role}/{begin}, but for the index"
            found.append({"role": role, "replica": index, "like": like})
        else:
            found[-1]["replica"] = f"{begin + 1} to {index}"
    return found


def _difference(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of ``other`` that ``first`` does not have; None for a missing one."""
    return {
        key: _difference(before, after)
        if isinstance(before, dict) and isinstance(after, dict)
        else after
        for key in {**first, **other}
        if (after := other.get(key)) != (before := first.get(key))
    }


def _without_secrets(named: Mapping[str, Any]) -> dict[str, Any]:
    return {name: MASK if is_sensitive(name) else value for name, value in named.items()}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value a plan can hold
    """Return a value in YAML's types, without fields that have their default."""
    if is_dataclass(value):
        return {
            option.name: _plain(current)
            for option in fields(value)
            if (current := getattr(value, option.name)) != default_of(option)
        }
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _masked(value: Any, secrets: frozenset[str]) -> Any:  # noqa: ANN401 - see _plain
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, dict):
        return {key: _masked(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, secrets) for item in value]
    return value
