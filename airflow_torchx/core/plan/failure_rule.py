"""Parses failure rules: what a text in the log of a failed app means."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, cast

from airflow_torchx.core.plan.pattern_cost import needed_text, searched_chars
from airflow_torchx.specs.scalars import BYTES
from airflow_torchx.specs.suggest import suggest

Action = Literal["fail", "restart", "none"]

ACTIONS: Final = ("fail", "restart", "none")
_FORM: Final = '{"name": NAME, "pattern": REGEX, "action": ACTION} or "NAME:ACTION:REGEX"'
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
_MOST_RULES: Final = 50
_MOST_CHARS: Final = 1_000
#: What torchrun and PyTorch write before a line of a worker: ``[0]:``, ``[trainer0]:[rank1]: ``.
_PREFIX: Final = re.compile(r"^(?:\[[^\d\n\[]{0,60}\d{1,9}\]: ?){1,2}", re.ASCII | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class FailureRule:
    """Explains a failure whose log has a match of a pattern; it never ends an app that runs.

    Args:
        name: what the failure is called, in cards, errors and XComs.
        pattern: regular expression, case-sensitive; ``^`` and ``$`` match at every line, ``^`` also
            after torchrun's prefix like ``[0]:``.
        action: ``fail`` fails the task without a retry and does not restart the app, ``restart``
            restarts it where that is allowed, ``none`` only names the failure.
        hints: texts of which every match has at least one; found faster than the pattern.
        advice: one sentence that says what to do; only built-in rules have one.
    """

    name: str
    pattern: str
    action: Action
    hints: tuple[str, ...] = field(default=(), compare=False)
    advice: str = field(default="", compare=False)

    @property
    def text(self) -> str:
        """The rule in one text."""
        return f"{self.name}:{self.action}:{self.pattern}"

    def search(self, text: str) -> re.Match[str] | None:
        """Return the first match in a text of many lines; None without one."""
        if not self.may_match(text):
            return None
        found = self._search(text)
        if found is None and "^" in self.pattern and "]:" in text:
            # The author of a pattern means the begin of what the program wrote.
            found = self._search(_PREFIX.sub("", text))
        return found

    def may_match(self, text: str) -> bool:
        """Return whether a text has what each match has; much faster than a search."""
        return not self._needed or any(one in text for one in self._needed)

    @property
    def is_slow(self) -> bool:
        """Whether a search can take much longer than the text has characters."""
        return self._searched_chars is not None

    def _search(self, text: str) -> re.Match[str] | None:
        if self._searched_chars is None:
            return self._regex.search(text)
        search, chars = self._regex.search, self._searched_chars
        return next(filter(None, (search(line, 0, chars) for line in text.split("\n"))), None)

    @cached_property
    def _searched_chars(self) -> int | None:
        return searched_chars(self.pattern)

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.MULTILINE)

    @cached_property
    def _needed(self) -> tuple[str, ...]:
        text = needed_text(self.pattern)
        return self.hints or ((text,) if text else ())


def failure_rules(value: object) -> tuple[str, ...]:
    """Return rules, each in one text; one string may have several, separated by semicolons."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(";") if part.strip()]
    if not isinstance(value, Sequence) or isinstance(value, BYTES):
        raise ValueError(f"give a list of {_FORM}")  # noqa: TRY004 - as in all parsers
    if len(value) > _MOST_RULES:
        raise ValueError(f"give at most {_MOST_RULES} rules")
    rules, problems = list[FailureRule](), list[str]()
    for one in value:
        try:
            rules.append(parse_rule(one))
        except ValueError as problem:
            problems.append(str(problem))
    names = Counter(rule.name for rule in rules)
    problems += [
        f"{count} rules are named {name!r}; rename all but one"
        for name, count in names.items()
        if count > 1
    ]
    if problems:
        raise ValueError(_listed(problems))
    return tuple(rule.text for rule in rules)


def _listed(problems: Sequence[str]) -> str:
    """Return problems in one line; several are numbered."""
    if len(problems) == 1:
        return problems[0]
    return " ".join(f"({number}) {one}." for number, one in enumerate(problems, 1))


def parse_rule(value: object) -> FailureRule:
    """Return the rule in a mapping or in the text ``NAME:ACTION:REGEX``.

    Raises:
        ValueError: with what to write instead.
    """
    given: Mapping[object, Any]
    if isinstance(value, str):
        given = dict(zip(("name", "action", "pattern"), value.split(":", 2), strict=False))
    else:
        given = value if isinstance(value, Mapping) else {}
    if given.keys() != {"name", "action", "pattern"}:
        raise ValueError(f"give {_FORM}, not {value!r:.80}")
    name, action, pattern = given["name"], given["action"], given["pattern"]
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        form = "letters, digits, '_', '.' and '-'"
        raise ValueError(f"the name {name!r:.80} of a rule needs 1 to 60 {form}")
    if action not in ACTIONS:
        raise ValueError(f"rule {name!r} has the action {action!r:.30}; {suggest(action, ACTIONS)}")
    _check_pattern(name, pattern)
    return FailureRule(name=name, pattern=pattern, action=cast("Action", action))


def _check_pattern(name: str, pattern: object) -> None:
    if not (isinstance(pattern, str) and 0 < len(pattern) <= _MOST_CHARS):
        raise ValueError(f"rule {name!r} needs a pattern of 1 to {_MOST_CHARS} characters")
    try:
        searched_chars(pattern)
        matches_nothing = re.compile(pattern, re.MULTILINE).search("")
    except (re.error, OverflowError, RecursionError) as error:
        what = f"rule {name!r} has {pattern!r:.80}, which is not a regular expression"
        raise ValueError(f"{what}: {error}; escape special characters with a backslash") from None
    except ValueError as why:
        raise ValueError(f"rule {name!r} has {pattern!r:.80}, which {why}") from None
    if matches_nothing:
        what = f"rule {name!r} has {pattern!r:.80}, which matches an empty line"
        raise ValueError(f"{what}; give a text that only such a failure has")


def merged_rules(first: object, then: object) -> object:
    """Return rules of two sources in one list, ``first`` first; of one name, only its rule.

    Sources that are not valid are left as they are, for a later error.
    """
    try:
        own = failure_rules(first)
        names = {parse_rule(text).name for text in own}
        return [*own, *(one for one in failure_rules(then) if parse_rule(one).name not in names)]
    except ValueError:
        return first


def label_of(rules: Iterable[str]) -> str:
    """Return the label that keeps an app's own rules for every client."""
    found = (parse_rule(text) for text in rules)
    return json.dumps(
        [{"name": one.name, "action": one.action, "pattern": one.pattern} for one in found]
    )
