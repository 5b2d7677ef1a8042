"""Reads how far a program is from what it has written, which may be anything."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from airflow_torchx.core.plan.pattern_cost import needed_text
from airflow_torchx.core.plan.progress import progress_pattern
from airflow_torchx.core.state.usage_json import is_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: Of the end of a file, or of a log: what is searched for a report.
MOST_LINES: Final = 50
#: Seconds in which a pattern may be searched for, all together.
MOST_S: Final = 3.0
#: Metrics of one report.
_MOST_METRICS: Final = 12
# A trigger stores the names of metrics, and knows no secrets: a name cannot be any text.
_METRIC: Final = re.compile(r"[A-Za-z_][\w./-]{0,39}", re.ASCII)
# A line that reports progress is short; the longest search of so many characters took 20 ms. Each
# pattern that `progress_pattern` accepts may be searched for in so many.
_CHARS: Final = 300
# A browser counts exactly up to 9e15.
_TOO_LARGE: Final = 1e15


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a program says of itself.

    Args:
        step: the steps that it has done.
        total: the steps that it will have done at its end; None if it does not say so.
    """

    step: float
    total: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def make_report(step: object, total: object, metrics: object) -> Report | None:
    """Return what can be used of a report; None without a step."""
    if not _is_count(step):
        return None
    named = metrics if isinstance(metrics, Mapping) else {}
    usable = (
        (name, float(f"{value:.6g}"))
        for name, value in named.items()
        if isinstance(name, str) and _METRIC.fullmatch(name) and is_number(value)
    )
    return Report(
        step=_rounded(step),
        total=_rounded(total) if _is_count(total) and total > 0 else None,
        metrics=dict(islice(usable, _MOST_METRICS)),
    )


def last_report(content: bytes, *, is_cut: bool = False) -> Report | None:
    """Return the last usable line of the end of a file of JSON lines; None without one.

    With ``is_cut``, the file has more before ``content``: its first line may be incomplete.
    """
    lines = content.split(b"\n")[1 if is_cut else 0 :]
    for line in islice(filter(bytes.strip, reversed(lines)), MOST_LINES):
        data = _parsed(line)
        found = make_report(*(data.get(name) for name in ("step", "total", "metrics")))
        if found is not None:
            return found
    return None


def first_step(content: bytes) -> float | None:
    """Return the step of the first usable line of the beginning of a file; None without one."""
    for line in islice(filter(bytes.strip, content.split(b"\n")), MOST_LINES):
        found = make_report(_parsed(line).get("step"), None, None)
        if found is not None:
            return found.step
    return None


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, Mapping) else {}


class LineSearch:
    """Searches lines of a log for a pattern, until that has taken too long.

    Args:
        pattern: the text of a label, which any client can write.
        clock: returns the CPU time of the calling thread, in seconds.
    """

    def __init__(self, pattern: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._spent_s = 0.0
        self._regex: re.Pattern[str] | None = None
        try:
            self._regex = re.compile(progress_pattern(pattern))
        except ValueError:
            return
        self._needed = needed_text(pattern)

    @property
    def is_over(self) -> bool:
        """Whether nothing is searched any more."""
        return self._regex is None or self._spent_s > MOST_S

    def last_report(self, lines: Sequence[str]) -> Report | None:
        """Return what the last matching line says; None without one.

        A progress bar writes over its line again and again: each of these counts as a line.
        """
        parts = chain.from_iterable(reversed(line.split("\r")) for line in reversed(lines))
        return self._first(islice((one for one in parts if self._may_match(one)), MOST_LINES))

    def _may_match(self, line: str) -> bool:
        return bool(line) and self._regex is not None and self._needed in line

    def _first(self, lines: Iterable[str]) -> Report | None:
        for line in lines:
            if self._regex is None or self.is_over:
                return None
            began_s = self._clock()
            match = self._regex.search(line, 0, _CHARS)
            self._spent_s += self._clock() - began_s
            found = _of_groups(match.groupdict()) if match else None
            if found is not None:
                return found
        return None


def _of_groups(groups: Mapping[str, str | None]) -> Report | None:
    numbers = {name: _number(text) for name, text in groups.items() if text is not None}
    step, total = numbers.pop("step", None), numbers.pop("total", None)
    return make_report(step, total, numbers)


def _number(text: str) -> float | None:
    """Return a number, perhaps with commas between thousands; None for any other text."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _is_count(value: object) -> TypeGuard[float]:
    return is_number(value) and 0 <= value < _TOO_LARGE


def _rounded(value: float) -> float:
    return int(value) if value == int(value) else round(value, 3)
