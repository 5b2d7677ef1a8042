"""Implements the command log: it prints or follows the logs of replicas."""

from __future__ import annotations

import heapq
import math
import re
import sys
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from airflow_torchx.cli.daemon import connect
from airflow_torchx.cli.finding import find
from airflow_torchx.cli.screen import ReplicaLines, print_message
from airflow_torchx.cli.timespec import parse_time
from airflow_torchx.core.state.describe import RETRIES, has_ended, replicas_of
from airflow_torchx.core.state.report import log_name, replica_name
from airflow_torchx.errors import AppNotFoundError, UsageError
from airflow_torchx.runtime import lifecycle, placing
from airflow_torchx.runtime.gang_log import GangLog, container_of
from airflow_torchx.runtime.replica_log import ReplicaLog, Span, Stream
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.logs.lines import LogLine
    from airflow_torchx.runtime.gang_log import Cursors
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

# Between two looks whether an app has been restarted.
_LOOK_S: Final = 1.0
_IDENTIFIER: Final = re.compile(
    r"(?P<app>(?:\w+://[^/]*/)?[^/]+)(?:/(?P<role>[^/]+)(?:/(?P<ids>\d{1,9}(?:,\d{1,9})*),?)?)?/?"
)


@dataclass(frozen=True)
class LogSelection:
    """Selects the replicas of a role whose logs to show; without a role or ids, all of them."""

    #: Handle or id of the app.
    app: str
    role: str | None
    ids: tuple[int, ...]


def parse_identifier(identifier: str) -> LogSelection:
    """Return the selection of ``scheduler://session/app/role/0,1``; only the app is required."""
    match = _IDENTIFIER.fullmatch(identifier)
    if match is None:
        fix = "Use local_docker://torchx/APP_ID, optionally with /ROLE or /ROLE/ID,ID2."
        raise UsageError(f"invalid log identifier {identifier!r}", fix=fix)
    ids = tuple(int(one) for one in (match["ids"] or "").split(",") if one)
    return LogSelection(match["app"], match["role"], ids)


def log(args: Namespace) -> int:
    """Show the logs of an app."""
    selection = parse_identifier(args.identifier)
    lines = LineFilter(_pattern(args.regex), _span(args), Stream(args.streams or "combined"))
    with connect(args.scheduler, selection.app) as engine:
        app_id = find(engine, selection.app)
        app = lifecycle.observe(engine, app_id)
        if app is None:
            raise lifecycle.not_found(engine, app_id)
        app = chosen(app, selection, last_round=args.last_round)
        if not args.tail:
            _read(engine, app, lines)
            return 0
        with ScreenLog(engine, app, lines=lines, stream=sys.stdout) as screen:
            # A followed log ends with its app, so it has no timeout.
            screen.finish(math.inf, lambda: False)
            while _is_restarted(engine, app):
                time.sleep(_LOOK_S)
                screen.finish(math.inf, lambda: False)
    return 0


def _is_restarted(engine: Engine, app: DescribeAppResponse) -> bool:
    """Return whether an app whose logs have ended has another round, or may have one."""
    if RETRIES not in app.metadata:
        return False
    now = lifecycle.observe(engine, app.app_id)
    return now is not None and not has_ended(now)


@dataclass(frozen=True)
class LineFilter:
    """Selects lines that contain a match, by their time and stream."""

    pattern: re.Pattern[str]
    span: Span
    streams: Stream


def chosen(
    app: DescribeAppResponse, selection: LogSelection, *, last_round: bool
) -> DescribeAppResponse:
    """Return the app with only the selected replicas, and of all rounds or only the last."""
    app = select(app, selection)
    # Without the label of restarts, it counts as an app of one round.
    return replace(app, metadata={}) if last_round else app


def select(app: DescribeAppResponse, selection: LogSelection) -> DescribeAppResponse:
    """Return the app with only the selected replicas, or raise `AppNotFoundError`."""
    if selection.role is None:
        return app
    roles = {role.role: role for role in app.roles_statuses}
    if selection.role not in roles:
        what = f"app {app.app_id!r} has no role {selection.role!r}"
        raise AppNotFoundError(f"{what}; {suggest(selection.role, roles)}")
    role = roles[selection.role]
    known = {replica.id: replica for replica in role.replicas}
    for one in selection.ids:
        if one not in known:
            what = f"app {app.app_id!r} has no replica {role.role}/{one}"
            fix = f"Its replicas are {', '.join(f'{role.role}/{i}' for i in known)}."
            raise AppNotFoundError(what, fix=fix)
    replicas = [known[one] for one in selection.ids or known]
    return replace(app, roles_statuses=[replace(role, replicas=replicas)])


def _read(engine: Engine, app: DescribeAppResponse, lines: LineFilter) -> None:
    """Print the existing lines of all replicas in order of time."""

    def read(replica: ReplicaStatus) -> Iterator[tuple[int, str, str]]:
        name = log_name(replica)
        log = ReplicaLog(
            engine,
            container_of(replica),
            span=lines.span,
            streams=lines.streams,
            resumable=True,
        )
        for line in log:
            if lines.pattern.search(line.text):
                yield line.time_ns or 0, name, line.text

    chosen = {replica_name(replica) for replica in replicas_of(app)}
    found = [one for one in lifecycle.of_all_rounds(engine, app) if replica_name(one) in chosen]
    replicas = [replica for replica in found if replica.container_id]
    for replica in found:
        if not replica.container_id:
            print_message(f"{replica_name(replica)}: no log, its container was removed")
    screen = ReplicaLines(sys.stdout, [log_name(replica) for replica in replicas])
    for _, name, text in heapq.merge(*map(read, replicas), key=lambda line: line[0]):
        screen.write(name, [text])
    screen.flush()


class ScreenLog(GangLog):
    """Prints the logs of an app's replicas, after the cursors of lines already printed.

    Without ``lines`` it prints all lines, and without ``stream`` to standard error.
    """

    def __init__(
        self,
        engine: Engine,
        app: DescribeAppResponse,
        after: Cursors | None = None,
        *,
        lines: LineFilter | None = None,
        stream: TextIO | None = None,
    ) -> None:
        lines = lines or LineFilter(re.compile(""), Span(), Stream.COMBINED)
        super().__init__(engine, app, after, span=lines.span, streams=lines.streams)
        self._pattern = lines.pattern
        names = [replica_name(replica) for replica in replicas_of(app)]
        self._screen = ReplicaLines(stream or sys.stderr, names)

    def emit(self, replica: ReplicaStatus, lines: Sequence[LogLine]) -> None:
        """Print lines of one replica; see `GangLog.emit`."""
        texts = (line.text for line in lines)
        self._screen.write(log_name(replica), filter(self._pattern.search, texts))
        self._screen.flush()

    def finish(self, timeout_s: float, should_stop: Callable[[], bool]) -> list[str]:
        """Print the remaining lines, and name incomplete logs; see `GangLog.finish`."""
        incomplete = super().finish(timeout_s, should_stop)
        for container in incomplete:
            command = f"{placing.docker_cli(self._engine).logs} {container}"
            print_message(f"incomplete log: read the rest with `{command}`")
        return incomplete


def _pattern(regex: str | None) -> re.Pattern[str]:
    try:
        return re.compile(regex or "")
    except re.error as error:
        what = f"invalid --regex {regex!r}: {error}"
        raise UsageError(what, fix="Escape special characters with a backslash.") from None


def _span(args: Namespace) -> Span:
    now = datetime.now().astimezone()
    since, until = (text and parse_time(text, now) for text in (args.since, args.until))
    return Span.between(since or None, until or None)
