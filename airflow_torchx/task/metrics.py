"""What the metrics of Airflow say of apps; its configuration decides where they go."""

from __future__ import annotations

from typing import Final

#: One metric for each rule: a StatsD without tags keeps them apart, too.
FAILURES_BY_RULE: Final = "torchx.failure_rule"


def count_failure(rule: str) -> None:
    """Count a failure of an app that a failure rule explains; ``rule`` is empty without one."""
    from airflow.sdk.observability import stats

    if rule:
        name = stats.normalize_name_for_stats(rule, log_warning=False)
        stats.incr(f"{FAILURES_BY_RULE}.{name}", tags={"rule": rule})
