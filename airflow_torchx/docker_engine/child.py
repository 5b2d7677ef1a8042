"""A child process that is killed when its caller fails, with input and output at the same time."""

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
_TICK_S: Final = 0.2


def start(command: list[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program in a new process group, with stderr merged into stdout.

    Raises:
        OSError: the program cannot be started.
    """
    return subprocess.Popen(  # noqa: S603 - no shell
        command,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        start_new_session=True,
    )


@contextlib.contextmanager
def kill_on_exit(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a process and its children on exit, if it still runs."""
    try:
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        with process:  # closes its pipes and waits for it
            pass


def communicate(
    process: subprocess.Popen[bytes], pieces: Iterator[bytes], on_text: Callable[[str], None]
) -> None:
    """Write input and read output until the process closes its output, then wait for its exit.

    The pieces of input are not empty; when the process stops reading, the rest is dropped.
    ``on_text`` is called with each piece of output, and with "" several times a second while there
    is none.
    """
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None  # noqa: S101 - both are pipes
    assert stdout is not None  # noqa: S101
    decode, feed = codecs.getincrementaldecoder("utf-8")("replace").decode, _Feed(pieces)
    os.set_blocking(stdin.fileno(), False)
    # One thread does both, so errors of `pieces` and `on_text` propagate by themselves.
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
    """Writes pieces to a non-blocking pipe."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def write_to(self, pipe: IO[bytes]) -> bool:
        """Write as much as fits and return whether more may follow."""
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        if not self._rest:
            return False
        try:
            written = pipe.write(self._rest)
        except BrokenPipeError:  # the process stopped reading; its output says why
            return False
        self._rest = self._rest[written or 0 :]
        return True
