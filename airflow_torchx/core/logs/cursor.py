"""A position in a container's log, to resume reading without losing or repeating a message.

Docker filters a log by time only, and times do not strictly grow: stdout and stderr overtake each
other by milliseconds, and every part of a long line has the time of its first part. So a cursor
stays a little behind, and counts messages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

#: Messages further apart than this are assumed to be in order; 2 ms was measured (Engine 20.10,
#: two busy cores, 60,000 messages). A larger window costs repeated reads only.
WINDOW_NS: Final = 1_000_000_000
# Nanoseconds until the year 2262, and a number of messages.
_TEXT: Final = re.compile(r"(\d{1,19})-(\d{1,9})-(\d{1,19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a log has been read.

    To resume, open the log with ``since_ns=cursor.time_ns`` and without ``tail``, and skip the
    first ``seen`` messages.

    Args:
        time_ns: nanoseconds since 1970; no unread message is older.
        seen: how many messages from ``time_ns`` on have been read.
        newest_ns: the latest time among them. A later message is unread even if fewer than
            ``seen`` came before it, because log rotation deletes old messages. None for
            ``time_ns``.
        rules: names of the failure rules that lines before it match, separated by spaces.
    """

    time_ns: int
    seen: int
    newest_ns: int | None = None
    rules: str = ""

    @property
    def text(self) -> str:
        """The position as a text that `parse` reads; the failure rules are left out."""
        newest_ns = self.time_ns if self.newest_ns is None else self.newest_ns
        return f"{self.time_ns}-{self.seen}-{newest_ns}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the position in a text.

        Raises:
            ValueError: it is not the `text` of a cursor.
        """
        if not (match := _TEXT.fullmatch(text)):
            raise ValueError(f"not a position in a log: {text!r:.60}")
        time_ns, seen, newest_ns = map(int, match.groups())
        return cls(time_ns, seen, newest_ns)


class CursorTracker:
    """Moves a cursor along a log, message by message.

    It keeps two marks, at least a window apart. The older one is the cursor; both advance when a
    message is a window ahead of the younger one.

    Args:
        after: where to resume; None for the beginning of the log.
        start_ns: lower bound of the marks; None for the time of the first message.
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
        """How far the log has been read; None before the first message."""
        if self._since_ns is None:
            return None
        return Cursor(self._since_ns, self._seen, self._newest_ns)

    def reopened(self) -> None:
        """Skip the known messages of a log that was opened again at the cursor's time."""
        self._skip = self._seen

    def is_new(self, time_ns: int, *, hold: bool) -> bool:
        """Return whether a message is unread, and count it as read.

        ``hold`` keeps the marks, because later parts of an unfinished line have the time of its
        first part.
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
        """Forget the messages that the daemon has deleted, which are the oldest."""
        self._seen -= self._skip
        self._mark_seen = min(self._mark_seen, self._seen)
        self._skip = 0
