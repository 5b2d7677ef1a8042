"""What replicas use, as compact JSON data: it is stored in a deferral and in the XCom of an app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard

from airflow_torchx.specs import ReplicaUsage

if TYPE_CHECKING:
    from collections.abc import Callable

# Name, key, and digits after the decimal point. The keys are short, because each replica has them.
_FIELDS: Final = (
    ("cpus", "cpus", 2),
    ("cpus_peak", "cpus_peak", 2),
    ("cpus_limit", "cpus_limit", 3),
    ("cpu_s", "cpu_s", 1),
    ("memory_bytes", "mem", 0),
    ("memory_peak_bytes", "mem_peak", 0),
    ("memory_limit_bytes", "mem_limit", 0),
    ("received_bytes", "rx", 0),
    ("sent_bytes", "tx", 0),
    ("gpu_percent", "gpu_pct", 1),
    ("gpu_peak_percent", "gpu_pct_peak", 1),
    ("gpu_memory_bytes", "gpu_mem", 0),
    ("gpu_memory_peak_bytes", "gpu_mem_peak", 0),
    ("gpu_memory_limit_bytes", "gpu_mem_limit", 0),
)
# The last time that Python can show.
_LAST_S: Final = 253_402_300_799


class Point(NamedTuple):
    """The highest samples of one interval; None for what is unknown."""

    cpus: float | None
    memory_mib: int | None
    gpu_percent: int | None


_LINES: Final = ("cpu", "mem", "gpu")


def usage_to_json(usage: ReplicaUsage) -> dict[str, Any]:
    """Return what a replica uses as JSON data, without what is unknown."""
    data: dict[str, Any] = {"at": round(usage.sampled_at.timestamp(), 1)}
    for name, key, digits in _FIELDS:
        value = getattr(usage, name)
        if value is not None:
            data[key] = round(value, digits) if digits else round(value)
    return data


def usage_from_json(data: Mapping[str, Any]) -> ReplicaUsage | None:
    """Return what `usage_to_json` stored; None if it cannot be used."""
    at_s = data.get("at")
    if not is_number(at_s) or not 0 <= at_s <= _LAST_S:
        return None
    kinds: dict[int, Callable[[float], float]] = {0: int}
    fields: dict[str, Any] = {
        name: kinds.get(digits, float)(data[key])
        for name, key, digits in _FIELDS
        if is_number(data.get(key))
    }
    return ReplicaUsage(sampled_at=datetime.fromtimestamp(at_s, UTC), **fields)


def line_to_json(line: Sequence[Point | None]) -> dict[str, list[float | None]]:
    """Return a line as one list each for CPUs, MiB and percent of a GPU, as far as known."""
    columns = zip(*(point or (None, None, None) for point in line), strict=True)
    found: dict[str, list[float | None]] = {
        name: [*column] for name, column in zip(_LINES, columns, strict=False)
    }
    return {name: values for name, values in found.items() if any(v is not None for v in values)}


def line_from_json(data: object) -> list[Point | None]:
    """Return what `line_to_json` stored; what cannot be used is unknown."""
    found = data if isinstance(data, Mapping) else {}
    columns = [found.get(name) for name in _LINES]
    lists = [one if isinstance(one, list) else [] for one in columns]
    rows = [
        [one[index] if index < len(one) and is_number(one[index]) else None for one in lists]
        for index in range(max(map(len, lists)))
    ]
    return [Point(*row) if any(v is not None for v in row) else None for row in rows]


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a JSON value is a finite number."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _TOO_LARGE
    )


_TOO_LARGE: Final = 1e18
