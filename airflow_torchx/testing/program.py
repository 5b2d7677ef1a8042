"""The behaviour of the main process of a fake container."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from airflow_torchx.core.engine.containers import ContainerSpec

Stream: TypeAlias = Literal["stdout", "stderr"]


@dataclass(frozen=True, kw_only=True)
class Program:
    """The behaviour of a container's main process; by default it exits at once with code 0.

    Args:
        lines: its output, on stdout unless a tuple names the stream. A str is a line; bytes are
            written unchanged, with or without newlines.
        line_every_s: seconds between ``lines``; the first is written at the start.
        runs_for_s: seconds it runs, at least until its last line; None for until it is stopped.
        exit_code: its exit code if it ends by itself.
        on_term: its reaction to SIGTERM.
        term_exit_code: its exit code after SIGTERM.
        on_signal: its exit codes after other signals, by name, like ``{"SIGUSR1": 0}``; it ignores
            those that are not here.
        oom_killed: whether the kernel kills it for its memory; ``exit_code`` should be 137 then.
        start_error: if not empty, starting it fails with this message.
        files: path to content, or to the target of a link; exist from its start.
        cpus: how many CPUs it keeps busy while it runs.
        memory_bytes: the memory that it uses while it runs.
        commands: what a command that runs in the container prints, by its first word, with its exit
            code, or None if it hangs; others do not exist.
        restart_delay_s: seconds before the daemon restarts it after a failure.
    """

    lines: Sequence[str | bytes | tuple[Stream, str | bytes]] = ()
    line_every_s: float = 0.0
    runs_for_s: float | None = 0.0
    exit_code: int = 0
    on_term: Literal["exit", "ignore"] = "exit"
    term_exit_code: int = 143
    on_signal: Mapping[str, int] = field(default_factory=dict)
    oom_killed: bool = False
    start_error: str = ""
    files: Mapping[str, bytes | str] = field(default_factory=dict)
    cpus: float = 1.0
    memory_bytes: int = 1 << 20
    commands: Mapping[str, tuple[int | None, bytes]] = field(default_factory=dict)
    restart_delay_s: float = 0.0

    def writes(self) -> list[tuple[Stream, bytes]]:
        """Return its output as pairs of stream and bytes."""
        tuples = [line if isinstance(line, tuple) else ("stdout", line) for line in self.lines]
        return [
            (stream, text if isinstance(text, bytes) else f"{text}\n".encode())
            for stream, text in tuples
        ]


#: One program, or one per run of a container; further runs repeat the last.
Behaviour: TypeAlias = Program | Sequence[Program]

#: One program for all containers; a mapping by role or ``role/replica`` (others exit at once with
#: code 0); or a function of the container's spec.
Programs: TypeAlias = Program | Mapping[str, Behaviour] | Callable[["ContainerSpec"], Behaviour]


def choose(programs: Programs, spec: ContainerSpec) -> tuple[Program, ...]:
    """Return the programs of one container, one per run."""
    if isinstance(programs, Program):
        return (programs,)
    if isinstance(programs, Mapping):
        by_role = programs.get(spec.role, Program())
        chosen = programs.get(f"{spec.role}/{spec.replica}", by_role)
    else:
        chosen = programs(spec)
    return (chosen,) if isinstance(chosen, Program) else tuple(chosen)
