"""How long the search for a regular expression can take, read from the expression.

Python's `re` tries all ways in which the repetitions of a pattern can share a text, and holds the
interpreter's lock meanwhile: neither a timeout nor another thread can end it.
"""

from __future__ import annotations

import math
from re import _parser  # type: ignore[attr-defined]  # public in no other way
from typing import Any, Final

# Ways in which a repetition without an end counts.
_UNBOUNDED: Final = 1_000
# Ways that are free, like those of `\d{1,3}` and `s?`.
_FREE: Final = 16
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
    repeats = math.ceil(max(math.log(_ways(tokens)) - math.log(_FREE), 0) / math.log(_UNBOUNDED))
    if repeats > _MOST - (not has_begin):
        raise ValueError(
            "has too many repetitions, so the search could take hours; use at most two of '*' "
            f"and '+', or three after a text of {_BEGIN} characters"
        )
    return _CHARS[repeats]


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
            ways *= (min(int(most), int(least) + _UNBOUNDED - 1) - int(least) + 1) * inner
        elif str(kind) == "BRANCH":
            ways *= sum(_ways(one) for one in value[1])
        else:
            parts = value if isinstance(value, tuple) else (value,)
            for part in parts:
                if isinstance(part, _parser.SubPattern):
                    ways *= _ways(part)
    return ways
