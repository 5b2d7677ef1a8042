"""A child process that is written to and read from at the same time, and does not outlive us."""

from __future__ import annotations

import codecs
import contextlib
import os
import selectors
import signal
import subprocess
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_BLOCK_BYTES: Final = 65_536
#: Between two looks at whether to go on.
_TICK_S: Final = 0.2


def start(command: list[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own, its errors among its output.

    Args:
        command: the program and its arguments.
        environ: its whole environment.

    Raises:
        OSError: it does not start.
    """
    return subprocess.Popen(  # noqa: S603 - no shell, and every word with its flag
        command,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        start_new_session=True,
    )


@contextlib.contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a process with all that it has started, unless it has ended."""
    try:
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        with process:  # closes its pipes, and waits
            pass


def converse(
    process: subprocess.Popen[bytes], pieces: Iterator[bytes], on_text: Callable[[str], None]
) -> None:
    """Write and read at the same time, until the process ends its output; then wait for its end.

    Args:
        process: made by `start`.
        pieces: its input; none of them empty. Dropped where the process stops reading.
        on_text: called with what it prints, in pieces of any size, and with nothing several times a
            second while it prints none.
    """
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None  # noqa: S101 - both are pipes
    assert stdout is not None  # noqa: S101
    decode, feed = codecs.getincrementaldecoder("utf-8")("replace").decode, _Feed(pieces)
    os.set_blocking(stdin.fileno(), False)
    # One thread does both, so that what the pieces or `on_text` raise simply comes out.
    with selectors.DefaultSelector() as selector:
        selector.register(stdin, selectors.EVENT_WRITE)
        selector.register(stdout, selectors.EVENT_READ)
        while True:
            if not (ready := selector.select(_TICK_S)):
                on_text("")
            for key, _ in ready:
                if key.fileobj is stdout:
                    if not (block := os.read(stdout.fileno(), _BLOCK_BYTES)):
                        stdin.close()
                        process.wait()
                        return
                    on_text(decode(block))
                elif not feed.write_to(stdin):
                    selector.unregister(stdin)
                    stdin.close()


class _Feed:
    """Writes pieces to a pipe as it takes them."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def write_to(self, pipe: IO[bytes]) -> bool:
        """Write what fits; return whether there may be more to write."""
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        if not self._rest:
            return False
        try:
            written = pipe.write(self._rest)
        except BrokenPipeError:  # it has stopped reading, and tells why
            return False
        self._rest = self._rest[written or 0 :]
        return True
