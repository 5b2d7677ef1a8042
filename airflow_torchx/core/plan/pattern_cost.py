"""How long the search for a regular expression can take, read from the expression.

Python's `re` tries all ways in which the repetitions of a pattern can share a text, and holds the
interpreter's lock meanwhile: neither a timeout nor another thread can end it.
"""

from __future__ import annotations

import math
import re
from itertools import groupby
from re import _parser  # type: ignore[attr-defined]  # public in no other way
from typing import Any, Final

# Ways in which a repetition without an end counts.
_UNBOUNDED: Final = 1_000
# Ways that are free, like those of `\d{1,3}` and `s?`.
_FREE: Final = 16
# Steps from one character on that are free: a step takes up to 20 ns.
_FREE_STEPS: Final = 256
#: Characters of a line that are searched, by the number of repetitions: the longest search of a
#: line took 0.7 s (`.*.*x` in a line of 1,000 `a`, measured on a busy core).
_CHARS: Final = {0: None, 1: 10_000, 2: 1_000, 3: 400}
_BEGIN: Final = 3
_MOST: Final = max(_CHARS)
_REPEATS: Final = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


def searched_chars(pattern: str) -> int | None:
    """Return how many characters of a line may be searched for a pattern; None for all.

    Raises:
        ValueError: the search could take hours, even in a short line.
        re.error: it is not a regular expression.
    """
    tokens = _parser.parse(pattern)
    # Few matches begin in a line, then.
    has_begin = [str(kind) for kind, _ in tokens[:_BEGIN]] == ["LITERAL"] * _BEGIN
    repeats = _thousands(_ways(tokens), _FREE) + _thousands(_steps(tokens), _FREE_STEPS)
    if repeats > _MOST - (not has_begin):
        raise ValueError(
            "has too many repetitions, so the search could take hours; use at most two of '*' "
            f"and '+', or three after a text of {_BEGIN} characters"
        )
    return _CHARS[repeats]


def needed_text(pattern: str) -> str:
    """Return the longest text that each match of a pattern has; empty without one."""
    tokens = _parser.parse(pattern)
    if tokens.state.flags & re.IGNORECASE:
        return ""
    kinds = groupby(tokens, lambda token: str(token[0]) == "LITERAL")
    texts = ("".join(chr(value) for _, value in run) for is_text, run in kinds if is_text)
    return max(texts, key=len, default="")


def _thousands(count: int, free: int) -> int:
    """Return how many repetitions without an end cost as much as so many ways or steps."""
    return math.ceil(max(math.log(count) - math.log(free), 0) / math.log(_UNBOUNDED))


def _ways(tokens: Any) -> int:  # noqa: ANN401 - re has no types for it
    """Return in how many ways a pattern can match from one character on."""
    ways = 1
    for kind, value in tokens:
        if str(kind) in _REPEATS:
            least, most, body = value
            inner = _ways(body)
            if most > 1 and inner > 1:
                raise ValueError(
                    "has a repetition or alternatives within a repetition, so the search could "
                    "take hours; write [ab] for (a|b), and a+ for (a+)+"
                )
            if most > 1 and body.getwidth()[0] == 0:
                raise ValueError(
                    "repeats what may be empty, so the search could take hours; "
                    r"leave out the repetition, like that of (\b){9}"
                )
            ways *= (min(int(most), int(least) + _UNBOUNDED - 1) - int(least) + 1) * inner
        elif str(kind) == "BRANCH":
            ways *= sum(_ways(one) for one in value[1])
        else:
            # A reference to a group compares as many characters as the group has.
            ways *= _UNBOUNDED if str(kind) == "GROUPREF" else 1
            ways *= math.prod(_ways(part) for part in _parts(value))
    return ways


def _steps(tokens: Any) -> int:  # noqa: ANN401 - re has no types for it
    """Return the steps of the longest way in which each repetition has as few rounds as it may."""
    steps = 1
    for kind, value in tokens:
        if str(kind) in _REPEATS:
            least, _, body = value
            steps += max(int(least), 1) * _steps(body)
        elif str(kind) == "BRANCH":
            steps += max(_steps(one) for one in value[1])
        else:
            steps += 1 + sum(_steps(part) for part in _parts(value))
    return steps


def _parts(value: Any) -> list[Any]:  # noqa: ANN401 - re has no types for it
    """Return the patterns within a token."""
    parts = value if isinstance(value, tuple) else (value,)
    return [part for part in parts if isinstance(part, _parser.SubPattern)]
