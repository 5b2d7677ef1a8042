"""Handles Ctrl-C, SIGTERM and SIGHUP while an app is launched and followed."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

#: SIGHUP undoes a launch; after it, SIGHUP ends the process and the app keeps running.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Records the first signal, and raises KeyboardInterrupt on the second one.

    A SIGTERM after Ctrl-C is recorded too, since Ctrl-C may have been a mistake. Until `launched`,
    signals after the second one get a reply instead: they must not interrupt the undo.

    Use it as a context manager, which restores the previous signal handlers on exit.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._reply: str | None = None
        self._next_reply: str | None = "the launch is already being undone"
        self._is_prompting = False

    def pending(self) -> bool:
        """Return whether a signal was received."""
        return self.received is not None

    def launched(self) -> None:
        """Restore the previous handler of SIGHUP, and let every further signal interrupt."""
        self._next_reply = None
        if signal.SIGHUP in self._before:
            signal.signal(signal.SIGHUP, self._before.pop(signal.SIGHUP) or signal.SIG_DFL)

    @property
    def is_sigterm(self) -> bool:
        """Return whether the recorded signal is SIGTERM."""
        return self.received is signal.SIGTERM

    def reset(self) -> None:
        """Treat the next signal as the first one, unless SIGTERM was recorded."""
        if not self.is_sigterm:
            self.received = None

    @contextlib.contextmanager
    def prompting(self) -> Iterator[None]:
        """Let SIGTERM raise KeyboardInterrupt while a question is open.

        Raises:
            KeyboardInterrupt: SIGTERM was received before or during the question.
        """
        self._is_prompting = True
        try:
            if self.is_sigterm:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_prompting = False

    @contextlib.contextmanager
    def replying(self, message: str) -> Iterator[None]:
        """Answer every signal with a message instead of recording it."""
        self._reply = message
        try:
            yield
        finally:
            self._reply = None

    @property
    def exit_code(self) -> int:
        """Return a shell's exit code for the recorded signal."""
        return 128 + (self.received or signal.SIGINT)

    def __enter__(self) -> Self:
        # A shell ignores some signals for background jobs; they stay ignored.
        handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._handle) for number in handled}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        if self._reply is not None:
            # `sys.stderr` is not reentrant, and this may interrupt it.
            os.write(2, f"\n{self._reply}\n".encode())
            return
        if self.received is None:
            self.received = signal.Signals(number)
            return
        escalates = number == signal.SIGTERM and not self.is_sigterm
        if escalates:
            self.received = signal.SIGTERM
        if self._is_prompting or not escalates:
            self._reply = self._next_reply
            raise KeyboardInterrupt
