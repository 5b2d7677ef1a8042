"""Searches texts for failure rules, for a limited time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.core.plan.failure_rule import FailureRule

#: Seconds for each rule. A pattern with a repetition can take 3 minutes for 100 MB of lines that
#: it does not match (`\w+ NaN` in lines of 1,000 `a`, measured), and holds the interpreter's lock.
MOST_S: Final = 3.0


class RuleSearch:
    """Searches texts for rules, until the search for a rule has taken too long.

    Args:
        rules: the rules, by priority.
        clock: returns the CPU time of the calling thread, in seconds; None for no limit.
        on_slow: called once with each rule that is left out from then on.
    """

    def __init__(
        self,
        rules: Sequence[FailureRule],
        clock: Callable[[], float] | None = None,
        on_slow: Callable[[FailureRule], object] = lambda _: None,
    ) -> None:
        self.rules = rules
        self._clock = clock or (lambda: 0.0)
        self._on_slow = on_slow
        self._spent_s: dict[str, float] = {}

    def first_match(self, text: str) -> str:
        """Return the name of the first rule that matches a text; empty without one."""
        return next((rule.name for rule in self.rules if self.matches(rule, text)), "")

    def matches(self, rule: FailureRule, text: str) -> bool:
        """Return whether a rule matches a text of many lines, as far as there was time."""
        if not rule.may_match(text):
            return False
        if not rule.is_slow:
            return rule.search(text) is not None
        return any(self._matches_line(rule, line) for line in text.split("\n"))

    def _matches_line(self, rule: FailureRule, line: str) -> bool:
        spent_s = self._spent_s.get(rule.name, 0.0)
        if spent_s > MOST_S:
            return False
        began_s = self._clock()
        is_found = rule.search(line) is not None
        spent_s += self._clock() - began_s
        self._spent_s[rule.name] = spent_s
        if spent_s > MOST_S:
            self._on_slow(rule)
        return is_found
