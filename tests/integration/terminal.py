"""Runs a program on a pseudo-terminal."""

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
    """Runs a program in a new session with this terminal.

    Args:
        command: the program and its arguments.
        cwd: its folder.
        env: additional environment variables.
        columns: width of the terminal.
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
            # Ctrl-C reaches the program only from its controlling terminal.
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
        """Return the output without colours."""
        return _COLOURS.sub("", self.raw).replace("\r\n", "\n")

    def type(self, keys: str) -> None:
        """Type keys."""
        os.write(self._ours, keys.encode())

    def wait_for(self, text: str, times: int = 1, timeout_s: float = 60.0) -> None:
        """Read until a text has been printed the given number of times."""
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
                msg = f"the program does not end:\n{self.text}"
                raise AssertionError(msg)
        return self.process.wait(timeout_s)

    def _read(self, timeout_s: float) -> bool:
        """Read available output, and return False after its end."""
        if not select.select([self._ours], [], [], timeout_s)[0]:
            return True
        with contextlib.suppress(OSError):  # raised by Linux after the program has ended
            chunk = os.read(self._ours, 65536)
            self.raw += chunk.decode(errors="replace")
            return bool(chunk)
        return False
