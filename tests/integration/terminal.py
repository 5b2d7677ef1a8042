"""A program on a terminal of its own, with somebody who types."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

CTRL_C: Final = "\x03"
CTRL_D: Final = "\x04"
_COLOURS: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """Runs a program in a session of its own, whose terminal this is.

    Args:
        command: the program and its words.
        cwd: its folder.
        env: its environment.
        columns: how wide the terminal is.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        columns: int = 100,
    ) -> None:
        self.raw = ""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "TERM": "xterm-256color", **(env or {})},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            # The terminal becomes the one whose Ctrl-C reaches the program.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._ours)

    @property
    def text(self) -> str:
        """What is on the screen, without colours."""
        return _COLOURS.sub("", self.raw).replace("\r\n", "\n")

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def wait_for(self, text: str, times: int = 1, timeout_s: float = 60.0) -> None:
        """Read until a text is on the screen, so many times."""
        deadline = time.monotonic() + timeout_s
        while self.text.count(text) < times:
            if time.monotonic() > deadline or not self._read(0.2):
                msg = f"no {text!r} on the screen:\n{self.text}"
                raise AssertionError(msg)

    def end(self, timeout_s: float = 60.0) -> int:
        """Read until the program ends, and return its exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read(0.2):
            if time.monotonic() > deadline:
                msg = f"it does not end:\n{self.text}"
                raise AssertionError(msg)
        return self.process.wait(timeout_s)

    def _read(self, timeout_s: float) -> bool:
        """Read what there is; False once nobody can write any more."""
        if not select.select([self._ours], [], [], timeout_s)[0]:
            return True
        with contextlib.suppress(OSError):  # the answer of Linux when the program has ended
            chunk = os.read(self._ours, 65536)
            self.raw += chunk.decode(errors="replace")
            return bool(chunk)
        return False
