"""How a program says how far it is: by a file of its container, or by lines of its log."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.pattern_cost import searched_chars

if TYPE_CHECKING:
    from airflow_torchx.core.plan.options import Opts

#: Where a program appends lines of JSON. A container of its own for each round begins without it.
PROGRESS_FILE: Final = "TORCHX_PROGRESS_FILE"
PROGRESS_PATH: Final = "/tmp/torchx_progress.jsonl"  # noqa: S108 - a file of the container
_MOST_CHARS: Final = 1_000


def progress_pattern(value: object) -> str:
    r"""Return a regular expression for log lines that has a group ``step``.

    Raises:
        ValueError: with what to write instead.
    """
    example = r"a regular expression with a group step, like step (?P<step>\d+)/(?P<total>\d+)"
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_CHARS:
        raise ValueError(f"give {example}, of 1 to {_MOST_CHARS} characters")
    try:
        searched_chars(value)
        groups = re.compile(value).groupindex
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"give {example}; this is not one: {error}") from None
    except ValueError as why:
        raise ValueError(f"give {example}; this one {why}") from None
    if "step" not in groups:
        raise ValueError(f"give {example}; this one has no group (?P<step>...)")
    return value


def progress_labels(opts: Opts) -> dict[str, str]:
    """Return the labels by which any process that waits for the app reads its progress."""
    pattern = opts.progress_pattern
    return {} if pattern is None else {labels.PROGRESS_PATTERN: pattern}
