"""The configuration hash, by which an attempt recognizes the app of an earlier attempt.

It covers only what differs from the defaults, so that a release that adds a field or an option with
a default does not change the hash of a running app.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.plan.options import default_of
from airflow_torchx.specs import BindMount, DeviceMount, VolumeMount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.specs import AppDef

#: Increase it if the same configuration gets another hash.
VERSION: Final = "v1"
_DIGITS: Final = 16
_VERSIONED: Final = re.compile(r"(v\d+)-.+")
_MOUNTS: Final = (BindMount, VolumeMount, DeviceMount)
#: Options that do not change the containers.
_IGNORED: Final = frozenset(
    {
        *("quiet", "keep_images", "max_context_mb", "gpu_wait_timeout_s", "gpu_foreign"),
        *("failure_rules", "checkpoint_interval_s", "progress_pattern", "pending_timeout_s"),
    }
)


def config_hash(app: AppDef, opts: Opts, secret_names: Iterable[str]) -> str:
    """Return the hash of what a task launches, like ``v1-0123456789abcdef``.

    Two attempts with the same hash can share an app, in which each workspace is named by its
    content. Values of secrets are excluded, because they may change between two attempts.
    """
    options = {name: value for name, value in _changed(opts).items() if name not in _IGNORED}
    config = {"app": _changed(app), "options": options, "secrets": sorted(secret_names)}
    # Values that are not JSON are refused by `preflight`.
    text = json.dumps(config, sort_keys=True, default=repr)
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{VERSION}-{digest[:_DIGITS]}"


def is_same_config(one: str, other: str) -> bool:
    """Return whether two hashes may belong to the same configuration.

    Hashes of different versions cannot be compared. They count as the same, because an upgrade must
    not stop a running app.
    """
    versions = {match[1] for text in (one, other) if (match := _VERSIONED.fullmatch(text))}
    return one == other or len(versions) > 1


def _changed(value: Any) -> Any:  # noqa: ANN401 - JSON data
    """Return a value as JSON data, without the fields that have their default."""
    if is_dataclass(value):
        kind = {"type": type(value).__name__} if isinstance(value, _MOUNTS) else {}
        return kind | {
            field.name: _changed(content)
            for field in fields(value)
            if (content := getattr(value, field.name)) != default_of(field)
        }
    if isinstance(value, Mapping):
        return {str(key): _changed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(item) for item in value]
    return value
