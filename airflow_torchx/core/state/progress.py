"""How far the program of an app is, and when it may be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_torchx.core.state.essential import essential_replicas
from airflow_torchx.core.state.progress_report import make_report
from airflow_torchx.core.state.usage_json import is_number

if TYPE_CHECKING:
    from airflow_torchx.core.state.progress_report import Report
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

#: Key of ``DescribeAppResponse.metadata``.
PROGRESS_PATTERN: Final = "progress_pattern"
# A longer estimate says nothing.
_LONGEST_S: Final = 100 * 365 * 86_400.0
_MINUTE_S: Final = 60
_DAY_S: Final = 86_400
_DAY_H: Final = 24
_ID_DIGITS: Final = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """The last report of a program, and the first one of the same run.

    Args:
        at_s: when its step was seen first, in seconds since 1970.
        first_step: the first step that was seen since the program began, or went back.
        first_s: when that was seen.
        container: the first digits of the id of the container that reported it.
    """

    report: Report
    at_s: float
    first_step: float
    first_s: float
    container: str

    @property
    def eta_s(self) -> float | None:
        """The seconds from ``at_s`` to the last step, at the rate until now; None if unknown."""
        step, total = self.report.step, self.report.total
        done, took_s = step - self.first_step, self.at_s - self.first_s
        if total is None or step >= total or done <= 0 or took_s <= 0:
            return None
        eta_s = (total - step) * took_s / done
        return eta_s if eta_s < _LONGEST_S else None

    def text(self, now_s: float) -> str:
        """Return it as a line, like ``step 1200/5000, loss 0.31, about 42 min left``."""
        report = self.report
        steps = _shown(report.step)
        if report.total is not None:
            steps += f"/{_shown(report.total)}"
        metrics = [f"{name} {value:.4g}" for name, value in report.metrics.items()]
        left = [] if self.eta_s is None else left_text(self.eta_s - max(0.0, now_s - self.at_s))
        return ", ".join([f"step {steps}", *metrics, *left])

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data, as a page shows it."""
        eta_s = self.eta_s
        return {
            "step": self.report.step,
            "total": self.report.total,
            "metrics": dict(self.report.metrics),
            "at": round(self.at_s, 2),
            "eta_s": None if eta_s is None else round(eta_s, 1),
            "first": {"step": self.first_step, "at": round(self.first_s, 2)},
        }

    def stored(self) -> dict[str, Any]:
        """Return it as JSON data for the next process that waits."""
        return {**self.to_json(), "container": self.container}

    @classmethod
    def parse(cls, stored: object) -> Self | None:
        """Return what was stored, perhaps by another release; None if it cannot be used."""
        found = stored if isinstance(stored, Mapping) else {}
        first = found.get("first")
        first = first if isinstance(first, Mapping) else {}
        report = make_report(*(found.get(name) for name in ("step", "total", "metrics")))
        at_s, first_step, first_s = found.get("at"), first.get("step"), first.get("at")
        if report is None or not (is_number(at_s) and is_number(first_s)):
            return None
        return cls(
            report=report,
            at_s=at_s,
            first_step=first_step if is_number(first_step) else report.step,
            first_s=first_s,
            container=str(found.get("container", ""))[:_ID_DIGITS],
        )


def merged(before: Progress | None, report: Report, container_id: str, now_s: float) -> Progress:
    """Return the progress after a report of a container, which may be the one that is known.

    The estimate begins again if the step goes back, or comes from another container.
    """
    container = container_id[:_ID_DIGITS]
    if before is None or before.container != container or report.step < before.report.step:
        return Progress(
            report=report,
            at_s=now_s,
            first_step=report.step,
            first_s=now_s,
            container=container,
        )
    if report.step == before.report.step:
        return replace(before, report=report)
    # Two hosts' clocks may differ.
    return replace(before, report=report, at_s=max(now_s, before.at_s))


def since_start(progress: Progress, first_step: float | None, started_s: float | None) -> Progress:
    """Return progress that was read once, with an estimate from the start of its container.

    ``first_step`` is the first one that was reported: a program that goes on from a checkpoint does
    not begin at 0. The time until that report counts, so the estimate is rather too long.
    """
    if first_step is None or started_s is None or started_s >= progress.at_s:
        return progress
    return replace(progress, first_step=first_step, first_s=started_s)


def progress_replica(app: DescribeAppResponse) -> ReplicaStatus | None:
    """Return the replica that speaks for the app: the first one of the first essential role."""
    return next(iter(essential_replicas(app)), None)


def left_text(left_s: float) -> list[str]:
    """Return how long a program may take, as a part of a line; nothing if it should be done."""
    if left_s <= 0:
        return []
    seconds = max(1, round(left_s))
    if seconds < _MINUTE_S:
        return [f"about {seconds} s left"]
    hours, minutes = divmod(max(1, round(left_s / _MINUTE_S)), 60)
    if not hours:
        return [f"about {minutes} min left"]
    if hours < _DAY_H:
        return [f"about {hours} h {minutes} min left"]
    return [f"about {left_s / _DAY_S:.1f} days left"]


def _shown(count: float) -> str:
    return str(count) if isinstance(count, int) else f"{count:.15g}"
