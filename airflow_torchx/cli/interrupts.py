"""Ctrl-C and SIGTERM while an app is launched and watched."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

#: SIGHUP counts as long as there is half an app to undo; later the app goes on, as if detached.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Notes the first signal, for who works to look at; the second one is a KeyboardInterrupt.

    But a SIGTERM that is the second one is noted too: it is an order, after what may be a slip.

    A context manager: leaving it restores what handled the signals before.
    """

    def __init__(self) -> None:
        self.noted: signal.Signals | None = None
        self._answer: str | None = None
        self._asks = False

    def pending(self) -> bool:
        """Tell whether a signal came."""
        return self.noted is not None

    def let_hang_up(self) -> None:
        """Let SIGHUP end this process again."""
        if signal.SIGHUP in self._before:
            signal.signal(signal.SIGHUP, self._before.pop(signal.SIGHUP) or signal.SIG_DFL)

    @property
    def is_order(self) -> bool:
        """Whether the last signal leaves no question: it was SIGTERM."""
        return self.noted is signal.SIGTERM

    def forget(self) -> None:
        """Take the next signal for the first one, unless the last one was an order."""
        if not self.is_order:
            self.noted = None

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Have SIGTERM, too, end the wait for an answer, by a KeyboardInterrupt.

        Raises:
            KeyboardInterrupt: SIGTERM came before there was a question.
        """
        self._asks = True
        try:
            if self.is_order:
                raise KeyboardInterrupt
            yield
        finally:
            self._asks = False

    @contextlib.contextmanager
    def answered(self, answer: str) -> Iterator[None]:
        """Answer each signal with a line, and go on: what is done meanwhile is what it asks for."""
        self._answer = answer
        try:
            yield
        finally:
            self._answer = None

    @property
    def exit_code(self) -> int:
        """What shells have for a process that such a signal ended."""
        return 128 + (self.noted or signal.SIGINT)

    def __enter__(self) -> Self:
        # What a shell ignores for a background job stays ignored.
        wanted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._note) for number in wanted}
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - its signature
        if self._answer is not None:
            # Not by `sys.stderr`, in the middle of whose own work this may be.
            os.write(2, f"\n{self._answer}\n".encode())
            return
        if self.noted is None:
            self.noted = signal.Signals(number)
            return
        asks_for_more = number == signal.SIGTERM and not self.is_order
        if asks_for_more:
            self.noted = signal.SIGTERM
        if self._asks or not asks_for_more:
            raise KeyboardInterrupt
