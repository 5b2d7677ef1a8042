"""Regular expressions whose search could take hours are refused or searched in less text."""

from __future__ import annotations

import pytest

from airflow_torchx.core.plan.failure_rule import FailureRule, parse_rule
from airflow_torchx.core.plan.pattern_cost import needed_text, searched_chars


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+$",
        r"(?:a*)*b",
        r"(a|aa)+$",
        r"(?:a?){30}a{30}",
        r"(?:a{1,30}){1,30}b",
        r"(?:x(?:y(?:a+)))*b",
        r"(?=(a+)+$)b",
        r"(?!(a+)+$)b",
        r"(?>(a+)+$)b",
        r"(?i:(a+)+$)",
        r"(x)?(?(1)(a+)+$|b)",
        r".*.*.*x",
        r"foo.*.*.*.*x",
        r"a?" * 40 + "a" * 40,
        r"(?:a*b*|c*)d*e",
        "a*" * 500,
        r"(?:(?:(?:\b){9999}){9999}){9999}",
        r"abc(?:\b){9999}",
        r"(?:(?=a))+b",
        r"(a*)\1{9}b",
        r"(?:(?:(?:ab){999}){999}){999}",
    ],
)
def test_patterns_that_could_take_hours(pattern: str) -> None:
    """A pattern is refused if it could share a text among its repetitions in too many ways."""
    with pytest.raises(ValueError, match="the search could take hours"):
        searched_chars(pattern)
    with pytest.raises(ValueError, match=r"rule 'a' has .* the search could take hours; "):
        parse_rule(f"a:none:{pattern}")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("Stale file handle", None),
        (r"Xid \d{1,3}s?", None),
        (r"(?:CUDA|HIP) out of memory|no GPU", None),
        (r"(?:ab)+c", 10_000),
        (r"401.{0,200}hub", 10_000),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}", None),
        (r"(?:ab){9999}c", 10_000),
        ("(?i)" + "a" * 900, 10_000),
        (r"(a+)\1", 1_000),
        (r"^\w+Error: ", 10_000),
        (r"rank \d+: .*NaN", 1_000),
        (r"step\s+\d+.*NaN", 400),
    ],
)
def test_ordinary_patterns(pattern: str, expected: int | None) -> None:
    """The more repetitions a pattern has, the less of each line is searched."""
    assert expected == searched_chars(pattern)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("Stale file handle", "Stale file handle"),
        (r"^\w+Error: ", "Error: "),
        (r"rank \d+: .*NaN", "rank "),
        ("abcd?", "abc"),
        ("abc|d", ""),
        ("(?:abc)+", ""),
        ("(?i)abc", ""),
        ("(?i:abc)def.", "def"),
        (r"a\.b", "a.b"),
        (r"\d", ""),
    ],
)
def test_the_text_that_each_match_has(pattern: str, expected: str) -> None:
    """The longest text that stands in a pattern by itself is in each of its matches."""
    assert expected == needed_text(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        ".*.*x",
        "[^x]*a[^y]*x",
        "aaa.*a.*a.*x",
        r"(a+)\1b",
        "(?:aa){9999}c",
        "(?i)" + "a" * 900 + "b",
    ],
)
@pytest.mark.timeout(60)
def test_a_long_line_does_not_hang_the_search(pattern: str) -> None:
    """The worst line for a pattern is searched as far as that takes a moment, and no further."""
    rule = parse_rule(f"a:none:{pattern}")

    assert rule.search("a" * 1_000_000) is None


def test_lines_are_searched_one_by_one() -> None:
    """A repetition does not go on in the next line, and a long line hides no later one."""
    rule = FailureRule(name="a", pattern="^bad[^x]*data$", action="none")

    assert not rule.search("bad\ndata")
    assert rule.search(f"{'x' * 20_000}\nbad data\nmore")
