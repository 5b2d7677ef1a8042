"""The end of a log of a swarm, whose managers take no end."""

from __future__ import annotations

import struct

import pytest

from airflow_torchx.swarm_engine.logs import Until

#: 2030-01-01T00:00:00Z.
START_NS = 1_893_456_000 * 10**9


def frame(text: bytes) -> bytes:
    """Return a frame of stderr."""
    return struct.pack(">BxxxI", 2, len(text)) + text


FIRST = b"2030-01-01T00:00:00.000000005Z first\n"
SECOND = b"2030-01-01T00:00:00.5Z second\n"


@pytest.mark.parametrize(
    ("until_ns", "count"), [(4, 0), (5, 1), (499_999_999, 1), (500_000_000, 2), (10**9, 2)]
)
def test_the_end_is_inclusive(until_ns: int, count: int) -> None:
    """Frames up to a moment are kept, to the nanosecond."""
    until = Until(START_NS + until_ns, timestamps=True)

    assert [frame(FIRST), frame(SECOND)][:count] == until.kept([frame(FIRST), frame(SECOND)])


def test_timestamps_are_taken_off() -> None:
    """Without timestamps, a frame has the text alone, and its length."""
    until = Until(START_NS + 10**9, timestamps=False)

    assert [frame(b"first\n")] == until.kept([frame(FIRST)])
