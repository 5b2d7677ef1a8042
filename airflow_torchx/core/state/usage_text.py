"""What replicas use, for a table and as advice about the resources of their roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine.amounts import counted
from airflow_torchx.specs import is_terminal

if TYPE_CHECKING:
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus, RoleStatus

#: Columns of a table of replicas.
COLUMNS: Final = ("memory", "CPUs", "GPU")

_UNITS: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_NEAR_LIMIT: Final = 0.95
_IDLE_SHARE: Final = 0.5
_SPARE_CPUS: Final = 1.0
_IDLE_GPU_PERCENT: Final = 10.0
# A shorter run has mostly started and loaded its data.
_LEAST_S: Final = 120.0


def usage_cells(replica: ReplicaStatus) -> dict[str, str]:
    """Return the cells of a replica: what it uses now, or the peaks after its end."""
    usage = replica.usage
    if usage is None:
        return dict.fromkeys(COLUMNS, "-")
    has_ended = is_terminal(replica.state)
    cpus = usage.cpus_peak if has_ended else usage.cpus
    memory = usage.memory_peak_bytes if has_ended else usage.memory_bytes
    percent = usage.gpu_peak_percent if has_ended else usage.gpu_percent
    of_gpus = usage.gpu_memory_peak_bytes if has_ended else usage.gpu_memory_bytes
    gpu = [
        "" if percent is None else f"{percent:.0f} %",
        "" if of_gpus is None else _memory(of_gpus, usage.gpu_memory_limit_bytes),
    ]
    shown = {
        "memory": _memory(memory, usage.memory_limit_bytes),
        "CPUs": "" if cpus is None else f"{_decimal(cpus)}{_of(usage.cpus_limit)}",
        "GPU": ", ".join(filter(None, gpu)),
    }
    peak = "peak " if has_ended else ""
    return {name: f"{peak}{text}" if text else "-" for name, text in shown.items()}


def usage_advice(app: DescribeAppResponse) -> list[str]:
    """Return what the usage of an app says about the resources of its roles, a line each."""
    return [line for role in app.roles_statuses for line in _advice(role)]


def _advice(role: RoleStatus) -> list[str]:
    known = [one.usage for one in role.replicas if one.usage is not None]
    lines = []
    limited = [one for one in known if one.memory_limit_bytes]
    shares = [one.memory_peak_bytes / (one.memory_limit_bytes or 1) for one in limited]
    if shares and max(shares) >= _NEAR_LIMIT:
        nearest = limited[shares.index(max(shares))]
        peak = _memory(nearest.memory_peak_bytes, nearest.memory_limit_bytes)
        lines.append(f"{role.role}: memory peak {peak}; raise resource.memMB")
    if not any(_ran_s(one) >= _LEAST_S for one in role.replicas):
        return lines
    limit = min((one.cpus_limit for one in known if one.cpus_limit), default=0.0)
    used = max((one.cpus_peak for one in known if one.cpus_peak is not None), default=limit)
    if used < limit * _IDLE_SHARE and limit - used >= _SPARE_CPUS:
        asked = counted(int(limit), "CPU") if limit.is_integer() else f"{limit:g} CPUs"
        lines.append(f"{role.role}: asked for {asked}, used {_decimal(used)}; lower resource.cpu")
    percents = [one.gpu_peak_percent for one in known if one.gpu_peak_percent is not None]
    if percents and max(percents) < _IDLE_GPU_PERCENT:
        lines.append(f"{role.role}: its GPUs were {max(percents):.0f} % busy at most")
    return lines


def _ran_s(replica: ReplicaStatus) -> float:
    """Return how long a replica ran before its last sample."""
    if replica.usage is None or replica.started_at is None:
        return 0.0
    return (replica.usage.sampled_at - replica.started_at).total_seconds()


def memory_text(count: int) -> str:
    """Return a size, like ``600 MiB``."""
    return " ".join(_in_unit(count))


def _memory(used: int, limit: int | None) -> str:
    """Return a size, like ``15.9 of 16 GiB``, ``3 MiB of 16 GiB`` or ``3 MiB``."""
    shown, unit = _in_unit(used)
    if limit is None:
        return f"{shown} {unit}"
    most, unit_of_limit = _in_unit(limit)
    return f"{shown}{f' {unit}' if unit != unit_of_limit else ''} of {most} {unit_of_limit}"


def _in_unit(count: int) -> tuple[str, str]:
    size, unit = next((one for one in _UNITS if count >= one[0]), _UNITS[-1])
    return _decimal(count / size), unit


def _of(limit: float | None) -> str:
    return "" if limit is None else f" of {limit:g}"


def _decimal(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
