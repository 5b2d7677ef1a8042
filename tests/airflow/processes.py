"""Processes that a test starts, stops, kills and looks into."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_T = TypeVar("_T")

#: A machine may be busy.
PATIENCE_S: Final = 180.0
_TICK_S: Final = 0.1


def until(
    look: Callable[[], _T | None],
    what: str,
    *,
    patience_s: float = PATIENCE_S,
    tick_s: float = _TICK_S,
) -> _T:
    """Return what ``look`` returns as soon as that is true."""
    deadline = time.monotonic() + patience_s
    while True:
        if seen := look():
            return seen
        assert time.monotonic() < deadline, f"{what}: not within {patience_s:g} s"
        time.sleep(tick_s)


@dataclass
class Component:
    """One of Airflow's processes, with those that it starts.

    Args:
        name: of the process, for messages and its log.
        words: the command line of ``airflow``.
        env: what is set for it.
        log: the file to which it writes.
    """

    name: str
    words: Sequence[str]
    env: Mapping[str, str]
    log: Path
    _groups: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The process that was started last."""
        return self._groups[-1].pid

    def start(self) -> None:
        """Start it; another time too, after it has ended."""
        with self.log.open("ab") as log:
            # A session of its own: what it starts is ended with it.
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", *self.words],
                env=os.environ | self.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._groups.append(process)

    def kill(self) -> None:
        """End its first process with SIGKILL; what that started lives on."""
        self._groups[-1].kill()
        self._groups[-1].wait()

    def pause(self) -> None:
        """Stop its processes with SIGSTOP, as a machine does that swaps or migrates."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let its processes go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def owns(self, pid: int) -> bool:
        """Tell whether a process belongs to it, even if the parents in between have ended."""
        try:
            return os.getsid(pid) in {group.pid for group in self._groups}
        except ProcessLookupError:
            return False

    def assert_runs(self) -> None:
        """Fail with what it wrote last if it has ended, but for an end by `kill`."""
        ended = self._groups[-1].poll() not in {None, -signal.SIGKILL}
        assert not ended, f"{self.name} ended:\n{self.text()[-5000:]}"

    def text(self) -> str:
        """Return what it has written."""
        return self.log.read_text(errors="replace")

    def end(self) -> None:
        """End all that was ever started."""
        for process in self._groups:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def parent_of(pid: int) -> int:
    """Return the process that started another one, or has adopted it."""
    return int(_stat(f"/proc/{pid}/stat")[1])


def is_alive(pid: int) -> bool:
    """Tell whether anything of a process runs; one that only waits to be waited for does not.

    When a process is killed, its first thread may end before others, which keep its files open.
    """
    states = []
    for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            states.append(_stat(thread)[0])
    return not {"Z", "X"}.issuperset(states)


def kill(pid: int) -> None:
    """End a process with SIGKILL, and wait until it has ended."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid), f"the end of process {pid}")


def _stat(path: Path | str) -> list[str]:
    """Return state, parent and more of a process or thread."""
    # The name of the program is in brackets, and may hold anything.
    return Path(path).read_text().rpartition(")")[2].split()
