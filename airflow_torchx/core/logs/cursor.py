"""Where a reader is in a log, so that the same log can be opened again behind it.

Docker filters a log by time and by nothing else, and its times do not simply grow: stdout and
stderr overtake each other by some milliseconds, and every part of a long line carries the time of
its first part, whatever was written in between. So a cursor stays a little behind, and counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Messages further apart than this are taken to be in order; 2 ms were seen (Engine 20.10, two
#: busy cores, 60,000 messages). It bounds what is read twice after a cut, not what is lost.
WINDOW_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Cursor:
    """The messages of a log that have been consumed.

    Open the log again with ``since_ns=cursor.time_ns`` and without ``tail``: of the messages that
    come, the first ``seen`` are known.

    Args:
        time_ns: nanoseconds since 1970, at most the time of any message still to come.
        seen: how many of the messages from ``time_ns`` on have been consumed.
        newest_ns: the latest time among them: a later message is new even if fewer than ``seen``
            came before it, because Docker deletes old messages of a log that is rotated. None
            for ``time_ns``.
    """

    time_ns: int
    seen: int
    newest_ns: int | None = None

    def as_tuple(self) -> tuple[int, int, int | None]:
        """Return the arguments that make an equal cursor."""
        return self.time_ns, self.seen, self.newest_ns


class CursorTracker:
    """Moves a cursor along a log, message by message.

    Two marks follow each other at least a window apart. The older one is the cursor; when a
    message is a window ahead of the younger one, they move on.

    Args:
        after: where to begin; None for the beginning of the log.
        start_ns: no mark lies before it; None for the time of the first message.
    """

    def __init__(self, after: Cursor | None, start_ns: int | None) -> None:
        self._start_ns = start_ns
        self._since_ns = self._mark_ns = after.time_ns if after else None
        self._seen = self._mark_seen = after.seen if after else 0
        newest_ns = after.newest_ns if after else None
        self._newest_ns = (self._since_ns or 0) if newest_ns is None else newest_ns
        self._skip = self._seen

    @property
    def cursor(self) -> Cursor | None:
        """Where the reader is; None before the first message."""
        if self._since_ns is None:
            return None
        return Cursor(self._since_ns, self._seen, self._newest_ns)

    def reopened(self) -> None:
        """Expect the log from the cursor's time on."""
        self._skip = self._seen

    def is_new(self, time_ns: int, *, hold: bool) -> bool:
        """Tell whether a message had not been consumed before, and count it if so.

        Args:
            time_ns: the time of the message.
            hold: a line is unfinished, and the parts to come are as old as its first part.
        """
        if self._skip:
            if time_ns <= self._newest_ns:
                self._skip -= 1
                return False
            self._forget_skipped()
        if time_ns > self._newest_ns or self._since_ns is None:
            self._newest_ns = time_ns
            if not hold:
                self._move(time_ns)
        self._count(time_ns)
        return True

    def _move(self, time_ns: int) -> None:
        if self._since_ns is None or self._mark_ns is None:
            first_ns = time_ns if self._start_ns is None else time_ns - WINDOW_NS
            self._since_ns = self._mark_ns = max(first_ns, self._start_ns or 0)
        elif time_ns >= self._mark_ns + WINDOW_NS:
            self._since_ns, self._seen = self._mark_ns, self._mark_seen
            self._mark_ns, self._mark_seen = time_ns, 0

    def _count(self, time_ns: int) -> None:
        if self._since_ns is not None and time_ns >= self._since_ns:
            self._seen += 1
        if self._mark_ns is not None and time_ns >= self._mark_ns:
            self._mark_seen += 1

    def _forget_skipped(self) -> None:
        """Do not expect messages again that the daemon has deleted; the oldest go first."""
        self._seen -= self._skip
        self._mark_seen = min(self._mark_seen, self._seen)
        self._skip = 0
