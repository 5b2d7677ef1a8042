"""A rule whose search takes too long is left out, and others are not."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from airflow_torchx.core.plan.failure_rule import parse_rule
from airflow_torchx.core.state.rule_search import MOST_S, RuleSearch

if TYPE_CHECKING:
    from airflow_torchx.core.plan.failure_rule import FailureRule

SLOW = parse_rule(r"slow:none:\w+ NaN")
PLAIN = parse_rule("plain:none:bad data")
#: It has what the slow rule needs, but not a match.
HOSTILE = "aaa: NaN"


def searching() -> tuple[RuleSearch, list[FailureRule]]:
    """Return a search that takes a second for each line, and the rules that it has left out."""
    slow: list[FailureRule] = []
    seconds = count()
    return RuleSearch([SLOW, PLAIN], lambda: float(next(seconds)), slow.append), slow


def test_a_slow_rule_is_left_out() -> None:
    """Once the search for a rule has taken too long, it is reported once and finds nothing more."""
    search, slow = searching()

    assert "plain" == search.first_match("\n".join([HOSTILE] * 9 + ["loss NaN", "bad data"]))
    assert [SLOW] == slow
    assert not search.matches(SLOW, "loss NaN")
    assert search.matches(PLAIN, "bad data")


def test_a_slow_rule_is_found_before() -> None:
    """A line that matches while there is time counts."""
    search, slow = searching()

    assert "slow" == search.first_match("\n".join([HOSTILE] * int(MOST_S - 1) + ["loss NaN"]))
    assert [] == slow


def test_lines_without_the_text_of_a_rule_take_no_time() -> None:
    """A text that a match must have is looked up before the search."""
    search, slow = searching()

    assert "" == search.first_match("\n".join(["a" * 1_000] * 100))
    assert "slow" == search.first_match("loss NaN")
    assert [] == slow


def test_no_limit_without_a_clock() -> None:
    """Without a clock all lines are searched."""
    search = RuleSearch([SLOW])

    assert "slow" == search.first_match("\n".join([HOSTILE] * 100 + ["loss NaN"]))
