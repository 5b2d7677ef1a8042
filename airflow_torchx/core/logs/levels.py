"""Finds the log level in a line that PyTorch wrote."""

from __future__ import annotations

import logging
import re
from typing import Final

# torchrun puts the role and the local rank in front of a worker's line, PyTorch the rank. A logger
# may add a color.
_PREFIX: Final = re.compile(
    r"""
    (?:\x1b\[[\d;]*m|\[[^\]\s]*\]:\ ?)*
    (?:
        # Python, since 2.4: W1129 09:19:38.123000 71 torch/distributed/run.py:852] …
        # C++: [W1129 09:19:38.123456789 socket.cpp:697] …, and 2.3 or older: [E socket.cpp:957] …
        \[?(?P<letter>[WEFC])\d{3,8}\ [\d:.]+\ [^\]]*:\d+\]
        | \[(?P<undated>[WEFC])\ [^\]\s]+:\d+\]
        # Python, 2.1 to 2.3: [2024-03-28 16:00:46,763] torch.distributed.run: [WARNING] …
        # The compiler adds its frame: [2023-10-12 09:00:00,000] [0/0] torch._dynamo: [WARNING] …
        | \[[\d\-]+\ [\d:,]+\]\ (?:\[\d+/[\d_]+\]\ )?[\w.]+:\ \[(?P<name>WARNING|ERROR|CRITICAL)\]
        # Python, older, and any logging.basicConfig(): ERROR:torch.distributed.elastic:…
        | (?P<oldest>WARNING|ERROR|CRITICAL):[\w.]+:
    )
    """,
    re.VERBOSE | re.ASCII,
)
_LEVELS: Final = {
    "W": logging.WARNING,
    "E": logging.ERROR,
    "F": logging.CRITICAL,
    "C": logging.CRITICAL,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
}


def level_of(text: str) -> int:
    """Return the level in the prefix of a line, as in `logging`; INFO without one, or below it.

    A lower level than INFO would hide the line in a task log.
    """
    match = _PREFIX.match(text)
    return _LEVELS[match[match.lastgroup or 0]] if match else logging.INFO
