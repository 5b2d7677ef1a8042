"""What the main process of a fake container does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from airflow_torchx.core.engine.containers import ContainerSpec

Stream: TypeAlias = Literal["stdout", "stderr"]


@dataclass(frozen=True, kw_only=True)
class Program:
    """What the main process of a container does: by default it ends with 0 at once.

    Args:
        lines: what it writes, to stdout unless a tuple names the stream. A str is a line; bytes are
            written as they are, with or without newlines.
        line_every_s: seconds between two ``lines``; the first is written at the start.
        runs_for_s: seconds it runs, at least until its last line; None for until it is stopped.
        exit_code: its exit code when it ends by itself.
        on_term: what SIGTERM does to it.
        term_exit_code: its exit code when SIGTERM ended it.
        oom_killed: the kernel ended it for its memory; ``exit_code`` should be 137 then.
        start_error: not empty: it cannot be started at all, in the Engine's words.
        files: path to content, in the container from its start on.
        restart_delay_s: seconds before the daemon restarts it after a failure, if it may.
    """

    lines: Sequence[str | bytes | tuple[Stream, str | bytes]] = ()
    line_every_s: float = 0.0
    runs_for_s: float | None = 0.0
    exit_code: int = 0
    on_term: Literal["exit", "ignore"] = "exit"
    term_exit_code: int = 143
    oom_killed: bool = False
    start_error: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    restart_delay_s: float = 0.0

    def writes(self) -> list[tuple[Stream, bytes]]:
        """Return what it writes, as streams and bytes."""
        tuples = [line if isinstance(line, tuple) else ("stdout", line) for line in self.lines]
        return [
            (stream, text if isinstance(text, bytes) else f"{text}\n".encode())
            for stream, text in tuples
        ]


#: One program, or one for each run of a container: after the last, the last again.
Behaviour: TypeAlias = Program | Sequence[Program]

#: What containers do: all the same, by role or ``role/replica`` (others end with 0 at once), or
#: decided from the spec when the container is created.
Programs: TypeAlias = Program | Mapping[str, Behaviour] | Callable[["ContainerSpec"], Behaviour]


def choose(programs: Programs, spec: ContainerSpec) -> tuple[Program, ...]:
    """Return the programs of one container, one for each of its runs."""
    if isinstance(programs, Program):
        return (programs,)
    if isinstance(programs, Mapping):
        by_role = programs.get(spec.role, Program())
        chosen = programs.get(f"{spec.role}/{spec.replica}", by_role)
    else:
        chosen = programs(spec)
    return (chosen,) if isinstance(chosen, Program) else tuple(chosen)
