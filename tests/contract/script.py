"""Small programs that run on the fake engine and in real containers."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from airflow_torchx.testing import Program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOREVER_S: Final = 600
# Child after child exceeds the memory limit until SIGTERM comes. The daemon misses an OOM of the
# first moments (containerd watches the cgroup only after the start), and loses one that the exit
# overtakes: on busy cores in 1 of 120 containers whose first process ended a second later.
_EATS_MEMORY: Final = "trap 'exit 137' TERM; while :; do tail /dev/zero; done"
# Longer runs of one byte are written by `head`, because the arguments of a process are limited.
_MANY: Final = 100


@dataclass(frozen=True, kw_only=True)
class Script:
    """A container's program, as similar as possible on both engines.

    Args:
        lines: its output; a str is a line on stdout, bytes are written unchanged.
        every_s: seconds between two lines.
        awaits_reading: whether a container writes a line only after `Bench.read` has seen the one
            before; on the fake engine, `every_s` separates them.
        then_s: seconds from the last line to the end; None for until it is stopped.
        ignores_term: whether it ignores SIGTERM; otherwise it exits with 143.
        after_usr1: its exit code after SIGUSR1; None ignores it.
        eats_memory: whether it exceeds its memory limit; in a container, again and again until it
            is stopped.
        entrypoint: its program; ``sh`` is the only one that exists.
        files: path to content, written at its start.
        cpus: 1.0 keeps a CPU busy until it is stopped.
        commands: what commands in the container do on the fake engine; see `Program`.
    """

    lines: tuple[str | bytes | tuple[Literal["stdout", "stderr"], str | bytes], ...] = ()
    every_s: float = 0.0
    awaits_reading: bool = False
    then_s: float | None = 0.0
    exit_code: int = 0
    ignores_term: bool = False
    after_usr1: int | None = None
    eats_memory: bool = False
    entrypoint: str = "sh"
    files: Mapping[str, bytes] = field(default_factory=dict)
    cpus: float = 0.0
    commands: Mapping[str, tuple[int, bytes]] = field(default_factory=dict)

    def program(self) -> Program:
        """Return the script for the fake engine."""
        writing_s = max(0, len(self.lines) - 1) * self.every_s
        missing = f"exec {self.entrypoint}: no such file or directory"
        return Program(
            lines=self.lines,
            line_every_s=self.every_s,
            runs_for_s=None if self.then_s is None else writing_s + self.then_s,
            exit_code=137 if self.eats_memory else self.exit_code,
            on_term="ignore" if self.ignores_term else "exit",
            on_signal={} if self.after_usr1 is None else {"SIGUSR1": self.after_usr1},
            oom_killed=self.eats_memory,
            start_error="" if self.entrypoint == "sh" else missing,
            files=self.files,
            restart_delay_s=0.1,
            cpus=self.cpus,
            commands=self.commands,
        )

    def command(self) -> str:
        """Return the script as a shell command for a real container."""
        return "\n".join(self._commands())

    def _commands(self) -> Iterator[str]:
        # Process 1 of a container ignores SIGTERM unless it has a handler.
        yield "trap '' TERM" if self.ignores_term else "trap 'exit 143' TERM"
        if self.after_usr1 is not None:
            yield f"trap 'exit {self.after_usr1}' USR1"
        for path, content in self.files.items():
            yield f"{{ {_printing(content)}; }} >{shlex.quote(path)}"
        for index, (stream, data) in enumerate(self.program().writes()):
            yield from self._pausing(index)
            yield f"{{ {_printing(data)}; }} {'>&2' if stream == 'stderr' else ''}"
        if self.eats_memory:
            yield _EATS_MEMORY
        if self.cpus:
            yield "while :; do :; done"
        if self.then_s != 0:
            yield _sleeping(FOREVER_S if self.then_s is None else self.then_s)
        yield f"exit {self.exit_code}"

    def _pausing(self, lines: int) -> Iterator[str]:
        """Yield what a container does after so many lines, before the next one."""
        if lines and self.awaits_reading:
            yield f"until [ -e {read_marker(lines)} ]; do sleep 0.05; done"
        elif lines and self.every_s:
            yield _sleeping(self.every_s)


def read_marker(lines: int) -> str:
    """Return the file by which a container knows that so many of its lines were read."""
    return f"/read-{lines}"


def _sleeping(seconds: float) -> str:
    # A shell handles signals during `wait`, but not while a command runs.
    return f"sleep {seconds:g} & wait $!"


def _printing(data: bytes) -> str:
    """Return the shell command that writes these bytes."""
    commands, rest = [], ""
    for byte, same in itertools.groupby(data):
        octal, count = f"\\{byte:03o}", len(list(same))
        if count > _MANY:
            commands += [_printing_octal(rest), f"head -c {count} /dev/zero | tr '\\0' '{octal}'"]
            rest = ""
        else:
            rest += octal * count
    return "; ".join([*commands, _printing_octal(rest)])


def _printing_octal(text: str) -> str:
    return f"printf '{text}'" if text else ":"
