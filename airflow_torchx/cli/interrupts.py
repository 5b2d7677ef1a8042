"""Ctrl-C and SIGTERM while an app is launched and watched."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Notes the first signal, for who works to look at; the second one is a KeyboardInterrupt.

    A context manager: leaving it restores what handled the signals before.
    """

    def __init__(self) -> None:
        self.noted: signal.Signals | None = None

    def pending(self) -> bool:
        """Tell whether a signal came."""
        return self.noted is not None

    def forget(self) -> None:
        """Take the next signal for the first one."""
        self.noted = None

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
        if self.noted is not None:
            raise KeyboardInterrupt
        self.noted = signal.Signals(number)
