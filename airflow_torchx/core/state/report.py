"""Reports of an app's state for the user."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine.amounts import counted
from airflow_torchx.core.engine.start_advice import start_advice
from airflow_torchx.core.state.blame import blamed_replica
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.essential import is_essential
from airflow_torchx.core.state.failure_notes import failure_notes
from airflow_torchx.core.state.out_of_memory import ran_out_of_memory
from airflow_torchx.core.state.stall import stalled_after
from airflow_torchx.core.state.usage_text import COLUMNS as USAGE_COLUMNS
from airflow_torchx.core.state.usage_text import memory_text, usage_advice, usage_cells
from airflow_torchx.core.state.worker_failure import SEQUENCE, TRACEBACK
from airflow_torchx.specs import is_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from airflow_torchx.core.state.restarts import Restart
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

#: How many lines of the first replica to fail are shown.
TAIL_LINES: Final = 20
#: How many lines are read, because the last ones may not have the cause.
READ_LINES: Final = 200
_WIDTH: Final = 120
_COLUMNS: Final = (
    *("replica", "state", "node", "exit code", "signal", "out of memory", "duration"),
    *USAGE_COLUMNS,
    "note",
)


def replica_name(replica: ReplicaStatus) -> str:
    """Return role and index, like ``trainer/1``, as in TorchX's command line."""
    return f"{replica.role}/{replica.id}"


def log_name(replica: ReplicaStatus) -> str:
    """Return what marks the lines of a replica: its name, and its round after a restart."""
    return f"{replica_name(replica)} r{replica.round}" if replica.round else replica_name(replica)


def cursor_key(replica: ReplicaStatus) -> str:
    """Return the name of the cursor of a replica's log, which each round has again."""
    return f"{replica_name(replica)}/r{replica.round}" if replica.round else replica_name(replica)


def replica_table(app: DescribeAppResponse, now: datetime | None = None) -> str:
    """Return a table with one line per replica.

    It has durations only for an app described with ``inspect_all``; those of replicas that have not
    ended are until ``now``.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    blamed = blamed_replica(app)
    columns = _columns(app)
    for column in columns:
        table.add_column(column, overflow="fold")
    for replica in replicas_of(app):
        cells = _cells(
            replica,
            now,
            failed_first=replica is blamed,
            auxiliary=not is_essential(app, replica.role),
        )
        table.add_row(*(cells[column] for column in columns))
    text = io.StringIO()
    Console(file=text, width=_WIDTH, color_system=None, emoji=False).print(table, markup=False)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def quoted_replica(app: DescribeAppResponse) -> ReplicaStatus | None:
    """Return the replica whose last lines a card has: the first to fail, else the first of all."""
    return blamed_replica(app) or next(iter(replicas_of(app)), None)


@dataclass(frozen=True)
class Found:
    """What is read for a card beside the state of an app.

    Args:
        limit_bytes: memory limit of the replica that failed; None without one.
        rule_line: the line that its failure rule matches, without secrets; empty if unknown.
    """

    limit_bytes: int | None = None
    rule_line: str = ""


def failure_card(
    app: DescribeAppResponse,
    last_lines: Sequence[str],
    reason: str = "",
    earlier: Sequence[ReplicaStatus] = (),
    found: Found | None = None,
) -> str:
    """Return the report of an app that failed or was cancelled.

    It has the first failure, or else ``reason``, then all replicas, and the last lines of
    `quoted_replica`. The app is described with ``inspect_all``. ``earlier`` are the replicas whose
    failures restarted it before; ``found`` is what else is known of the failure.
    """
    blamed, found = blamed_replica(app), found or Found()
    if blamed is not None:
        why = cause(blamed, limit_bytes=found.limit_bytes, stalled_after_s=stalled_after(app))
        reason = f"{replica_name(blamed)} failed first: {why}"
    reason = f": {reason}" if reason else ""
    parts = [f"app {app.app_id!r} {app.state.name}{reason}", *failure_notes(app, found.rule_line)]
    if blamed is not None:
        parts += [*filter(None, _start_hints(blamed, last_lines))][:1]
    if earlier:
        parts += [f"It was restarted {'once' if len(earlier) == 1 else f'{len(earlier)} times'}:"]
        parts += [
            f"  round {one.round}: {replica_name(one)}: {_cause_and_rule(one)}" for one in earlier
        ]
    parts += ["", replica_table(app), *usage_advice(app)]
    quoted = quoted_replica(app)
    if quoted is not None:
        name = replica_name(quoted)
        parts += _traceback(quoted, last_lines)
        title = f"last {counted(len(last_lines), 'line')} of {name}:"
        parts += ["", title if last_lines else f"{name} wrote nothing."]
        parts += [f"  {_cut(line)}" for line in last_lines]
    return "\n".join(parts)


def _start_hints(blamed: ReplicaStatus, last_lines: Sequence[str]) -> Iterator[str | None]:
    """Yield advice for what kept the program of a replica from its start."""
    yield start_advice(blamed.error)
    if blamed.exit_code is not None:
        yield from (start_advice(line, blamed.exit_code) for line in reversed(last_lines))


def _traceback(replica: ReplicaStatus, last_lines: Sequence[str]) -> list[str]:
    """Return the end of a worker's traceback, unless the last lines have it."""
    lines = replica.worker.traceback.split("\n") if replica.worker else []
    ends = [line.strip() for line in lines if line.strip()][-3:]
    shown = "\n".join(last_lines)
    if not ends or all(end in shown for end in ends):
        return []
    return [
        "",
        f"traceback of {_who(replica)}:",
        *(f"  {_cut(one)}" for one in lines[-TAIL_LINES:]),
    ]


def _who(replica: ReplicaStatus) -> str:
    """Return the worker of a replica that failed, like ``rank 1 in trainer/0``."""
    rank = replica.worker.rank if replica.worker else None
    return replica_name(replica) if rank is None else f"rank {rank} in {replica_name(replica)}"


def _cut(line: str) -> str:
    rest = len(line) - _LINE_CHARACTERS
    return f"{line[:_LINE_CHARACTERS]}… ({rest:,} more characters)" if rest > 0 else line


def relevant_lines(lines: Sequence[str]) -> list[str]:
    """Return the last lines before torchrun's own traceback, `TAIL_LINES` at most.

    torchrun ends with a traceback and a banner, 40 lines without the cause; the lines of its
    workers come before, or between if they were buffered. Colors and other control sequences of
    terminals are left out.
    """
    lines = [SEQUENCE.sub("", line) for line in lines]
    own = [i for i, line in enumerate(lines) if line.startswith(_TORCHRUN_ERROR)]
    starts = [i for i, line in enumerate(lines[: own[-1]]) if line == TRACEBACK] if own else []
    if not starts:
        return lines[-TAIL_LINES:]
    between = [line for line in lines[starts[-1] :] if _OF_WORKER.match(line)]
    shown = [*lines[: starts[-1]], *between]
    return [*shown[1 - TAIL_LINES :], "(torchrun's own traceback is omitted)"]


_LINE_CHARACTERS: Final = 2_000
#: Characters of a worker's error in the first line of a card.
_MESSAGE: Final = 300
#: A line of a worker after its local rank, ``[0]:step 1``; torchrun's banner has only the rank.
_OF_WORKER: Final = re.compile(r"\[\D{0,60}\d{1,9}\]:.*\S", re.ASCII)
_TORCHRUN_ERROR: Final = "torch.distributed.elastic.multiprocessing.errors.ChildFailedError"


def cause(
    replica: ReplicaStatus,
    *,
    limit_bytes: int | None = None,
    stalled_after_s: float | None = None,
) -> str:
    """Return why a replica failed, like ``exit code 1``, or ``rank 3: exit code 85``.

    ``limit_bytes`` is its memory limit, ``stalled_after_s`` how long its app made no progress, as
    far as they are known.
    """
    code, worker = replica.blamed_exit_code, replica.worker
    rank = f"rank {worker.rank}: " if worker and worker.rank is not None else ""
    if ran_out_of_memory(replica):
        killed = "killed, " if code in {137, -9, None} else ""
        if limit_bytes is None and replica.usage is not None:
            limit_bytes = replica.usage.memory_limit_bytes
        limit = f", limit {memory_text(limit_bytes)}" if limit_bytes else ""
        return f"{rank}{killed}out of memory (exit code {code}{limit}); raise resource.memMB"
    if replica.stalled:
        lasted = "too long" if stalled_after_s is None else f"{stalled_after_s:g} s"
        return f"stalled: no line, no CPU use and no GPU use for {lasted} (stalled_after_s)"
    if code is None:
        return replica.error or "no exit code"
    signal = worker.signal if worker and worker.exit_code is not None else replica.signal
    if signal == "SIGKILL":
        # The daemon can miss an OOM event of the first moments, or one that the exit overtakes.
        signal += ", possibly out of memory"
    shown_signal = f" ({signal})" if signal else ""
    error = replica.error or (worker.message.split("\n")[0][:_MESSAGE] if worker else "")
    return f"{rank}exit code {code}{shown_signal}{f': {error}' if error else ''}"


def restart_text(app: DescribeAppResponse, restart: Restart, *, has_texts: bool = True) -> str:
    """Return one line for the log: what failed, why, and which restart of how many follows.

    ``has_texts`` is whether it may have the error that a worker left.
    """
    lost = next((one for one in replicas_of(app) if replica_name(one) == restart.lost), None)
    what = "the app" if len(restart.roles) == len(app.roles_statuses) else restart.roles[0]
    if lost is None:
        return f"finishing the restart of {what} that another client began, round {restart.number}"
    blamed = blamed_replica(app)
    if blamed is not None and blamed.role in restart.roles and is_essential(app, lost.role):
        lost = blamed
    name = replica_name(lost)
    if lost.worker is not None and not has_texts:
        lost = replace(lost, worker=replace(lost.worker, message="", traceback=""))
    why = _cause_and_rule(lost, stalled_after(app))
    return (
        f"replica {name} failed: {why}; restarting {what}, "
        f"restart {restart.used} of {restart.maximum}"
    )


def _cause_and_rule(replica: ReplicaStatus, stalled_after_s: float | None = None) -> str:
    """Return why a replica of a round that was restarted failed."""
    rule = f" (failure rule {replica.rule})" if replica.rule else ""
    return f"{cause(replica, stalled_after_s=stalled_after_s)}{rule}"


def duration_text(duration_s: float | None) -> str:
    """Return a duration like ``0.4 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    if duration_s is None:
        return "-"
    if round(duration_s, 1) < _MINUTE:
        return f"{duration_s:.1f} s"
    minutes, rest = divmod(round(duration_s), _MINUTE)
    if minutes < _MINUTE:
        return f"{minutes} min {rest} s"
    return f"{minutes // _MINUTE} h {minutes % _MINUTE} min"


def age_text(age_s: float) -> str:
    """Return an age in its largest unit, like ``0 s``, ``59 min``, ``2 h`` or ``10 d``."""
    age_s = max(age_s, 0)  # the clocks of two hosts differ
    for seconds, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if age_s >= seconds:
            return f"{age_s // seconds:.0f} {unit}"
    return f"{age_s // 1:.0f} s"


_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def _columns(app: DescribeAppResponse) -> list[str]:
    """Return the columns that are not empty."""
    replicas = replicas_of(app)
    has_notes = any(r.num_restarts or r.round or not is_essential(app, r.role) for r in replicas)
    is_empty = {
        "node": not any(replica.node for replica in replicas),
        "signal": not any(replica.signal for replica in replicas),
        "out of memory": not any(replica.oom_killed for replica in replicas),
        "note": blamed_replica(app) is None and not has_notes,
        **{
            name: all(usage_cells(replica)[name] == "-" for replica in replicas)
            for name in USAGE_COLUMNS
        },
    }
    return [column for column in _COLUMNS if not is_empty.get(column, False)]


def _worker_note(replica: ReplicaStatus) -> str:
    """Return which worker failed, if its exit code is not the one in the table."""
    worker = replica.worker
    if worker is None or worker.rank is None:
        return ""
    signal = f" ({worker.signal})" if worker.signal else ""
    return f"rank {worker.rank}: exit code {worker.exit_code}{signal}"


def _memory_cell(replica: ReplicaStatus) -> str:
    """Return whether lack of memory ended a replica, or only a process in it."""
    if ran_out_of_memory(replica):
        return "yes"
    return "a process" if replica.oom_killed else "no"


def _cells(
    replica: ReplicaStatus, now: datetime | None, *, failed_first: bool, auxiliary: bool
) -> dict[str, str]:
    if not is_terminal(replica.state):
        # A replica that was restarted has the end of its last run.
        replica = replace(replica, finished_at=now)
    times = "once" if replica.num_restarts == 1 else f"{replica.num_restarts} times"
    restarted = f"restarted {times}" if replica.num_restarts else ""
    notes = [
        f"round {replica.round}" if replica.round else "",
        "failed first" if failed_first else "",
        "auxiliary" if auxiliary else "",
        f"failure rule {replica.rule}" if auxiliary and replica.rule else "",
        restarted,
        "stalled" if replica.stalled else "",
        replica.error or _worker_note(replica),
    ]
    return {
        "replica": replica_name(replica),
        "state": replica.state.name,
        "node": replica.node or "-",
        "exit code": "-" if replica.exit_code is None else str(replica.exit_code),
        "signal": replica.signal or "-",
        "out of memory": _memory_cell(replica),
        "duration": duration_text(replica.duration_s),
        **usage_cells(replica),
        "note": ", ".join(filter(None, notes)),
    }
