"""What the replicas of an app write, or wrote."""

from __future__ import annotations

import heapq
import re
import sys
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from airflow_torchx.cli.finding import find
from airflow_torchx.cli.screen import ReplicaLines, say
from airflow_torchx.cli.timespec import moment
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.report import replica_name
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import AppNotFoundError, UsageError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.gang_log import GangLog, container_of
from airflow_torchx.runtime.replica_log import ReplicaLog, Span, Stream
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.gang_log import Cursors
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

_IDENTIFIER: Final = re.compile(
    r"(?P<app>(?:\w+://[^/]*/)?[^/]+)(?:/(?P<role>[^/]+)(?:/(?P<ids>\d{1,9}(?:,\d{1,9})*),?)?)?/?"
)
#: A log that is followed ends with its app, whenever that is.
_FOR_EVER_S: Final = float("inf")


@dataclass(frozen=True)
class LogSelection:
    """Whose logs: an app's, those of one role, or of some replicas of it.

    Args:
        app: its handle or id.
        role: only this role's; None for all.
        ids: only these replicas'; empty for all.
    """

    app: str
    role: str | None
    ids: tuple[int, ...]


def selection(identifier: str) -> LogSelection:
    """Return what ``scheduler://session/app/role/0,1`` means; of its parts only the app must be.

    Raises:
        UsageError: it has another form.
    """
    match = _IDENTIFIER.fullmatch(identifier)
    if match is None:
        fix = "Write local_docker://torchx/APP_ID, then /ROLE and /ID,ID2 for some replicas only."
        raise UsageError(f"{identifier!r} names no logs.", fix=fix)
    ids = tuple(int(one) for one in (match["ids"] or "").split(",") if one)
    return LogSelection(match["app"], match["role"], ids)


def log(args: Namespace) -> int:
    """Show the logs."""
    asked = selection(args.identifier)
    lines = Lines(_pattern(args.regex), _span(args), Stream(args.streams or "combined"))
    with DockerEngine.connect() as engine:
        app_id = find(engine, asked.app)
        app = lifecycle.observe(engine, app_id)
        if app is None:
            raise lifecycle.not_found(app_id)
        app = chosen(app, asked)
        (_follow if args.tail else _read)(engine, app, lines)
    return 0


@dataclass(frozen=True)
class Lines:
    """Which lines of a log.

    Args:
        pattern: those in which this is found.
        span: those of this time.
        streams: those of stdout, stderr or both.
    """

    pattern: re.Pattern[str]
    span: Span
    streams: Stream


def chosen(app: DescribeAppResponse, asked: LogSelection) -> DescribeAppResponse:
    """Return the app without the replicas that are not asked for.

    Raises:
        AppNotFoundError: it has no such role or replica.
    """
    if asked.role is None:
        return app
    roles = {role.role: role for role in app.roles_statuses}
    if asked.role not in roles:
        what = f"app {app.app_id!r} has no role {asked.role!r}."
        raise AppNotFoundError(what, fix=suggest(asked.role, roles))
    role = roles[asked.role]
    known = {replica.id: replica for replica in role.replicas}
    for one in asked.ids:
        if one not in known:
            what = f"app {app.app_id!r} has no replica {asked.role}/{one}."
            fix = f"Its replicas are {', '.join(f'{asked.role}/{i}' for i in known)}."
            raise AppNotFoundError(what, fix=fix)
    replicas = [known[one] for one in asked.ids or known]
    return replace(app, roles_statuses=[replace(role, replicas=replicas)])


def _read(engine: Engine, app: DescribeAppResponse, lines: Lines) -> None:
    """Write what there is, the lines of all replicas in the order of time."""

    def read(replica: ReplicaStatus) -> Iterator[tuple[int, str, str]]:
        name = replica_name(replica)
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

    replicas = [replica for replica in replicas_of(app) if replica.container_id]
    for replica in replicas_of(app):
        if replica not in replicas:
            say(f"{replica_name(replica)}: its container is gone, and its log with it")
    screen = ReplicaLines(sys.stdout, [replica_name(replica) for replica in replicas])
    for _, name, text in heapq.merge(*map(read, replicas), key=lambda line: line[0]):
        screen.write(name, [text])
    screen.flush()


class ScreenLog(GangLog):
    """A gang's log on a screen.

    Args:
        engine: the daemon.
        app: the app.
        after: how far it was written before.
        lines: which lines; None for all.
        stream: where to; None for standard error.
    """

    def __init__(
        self,
        engine: Engine,
        app: DescribeAppResponse,
        after: Cursors | None = None,
        *,
        lines: Lines | None = None,
        stream: TextIO | None = None,
    ) -> None:
        lines = lines or Lines(re.compile(""), Span(), Stream.COMBINED)
        super().__init__(engine, app, after, span=lines.span, streams=lines.streams)
        self._pattern = lines.pattern
        names = [replica_name(replica) for replica in replicas_of(app)]
        self._screen = ReplicaLines(stream or sys.stderr, names)

    def emit(self, replica: ReplicaStatus, lines: Sequence[str]) -> None:
        """See `GangLog.emit`."""
        self._screen.write(replica_name(replica), filter(self._pattern.search, lines))
        self._screen.flush()

    def finish(self, timeout_s: float, should_stop: Callable[[], bool]) -> list[str]:
        """See `GangLog.finish`; what is given up is told."""
        late = super().finish(timeout_s, should_stop)
        if late:
            say(f"the rest of these logs is left out: docker logs {' '.join(late)}")
        return late


def _follow(engine: Engine, app: DescribeAppResponse, lines: Lines) -> None:
    with ScreenLog(engine, app, lines=lines, stream=sys.stdout) as screen:
        screen.finish(_FOR_EVER_S, lambda: False)


def _pattern(regex: str | None) -> re.Pattern[str]:
    try:
        return re.compile(regex or "")
    except re.error as why:
        what = f"--regex {regex!r} is no regular expression: {why}."
        raise UsageError(
            what, fix="Mend it, or put a backslash before what means itself."
        ) from None


def _span(args: Namespace) -> Span:
    now = datetime.now().astimezone()
    since, until = (text and moment(text, now) for text in (args.since, args.until))
    return Span.between(since or None, until or None)
