"""Wait for an app, and carry out its failure policy meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.state.describe import (
    Fail,
    Finish,
    Place,
    StopAuxiliary,
    Wait,
    next_step,
)
from airflow_torchx.core.state.restarts import Restart
from airflow_torchx.errors import WaitTimeoutError
from airflow_torchx.runtime import placing, rounds
from airflow_torchx.runtime.lifecycle import cancel, described, not_found, rows_of
from airflow_torchx.runtime.outage import OUTAGE_S, Backoff, OutageTolerance
from airflow_torchx.runtime.stall import StallDetector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.usage import UsageMonitor
    from airflow_torchx.specs import DescribeAppResponse

_log = logging.getLogger(__name__)

# A daemon may list the end of a container some milliseconds after it ended the log.
_LOOK_AGAIN_S: Final = 0.01


def poll_once(
    engine: Engine,
    app_id: str,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_look: Callable[[DescribeAppResponse], object] = lambda _: None,
    secrets: frozenset[str] | None = None,
) -> DescribeAppResponse | None:
    """Look at an app once, and carry out its failure policy or a restart that is due.

    ``on_look`` is called with the app as it is found. If ``should_stop`` returns True, a restart
    is left to the next owner of the app, unless it can be finished at once. ``secrets`` is that of
    `rounds.carry_out`.

    Returns:
        The app when every replica has ended, None while it runs.

    Raises:
        AppNotFoundError: nothing of the app is on the daemon.
    """
    rows = rows_of(engine, app_id)
    if (app := described(engine, app_id, rows)) is None:
        raise not_found(engine, app_id)
    on_look(app)
    return _advanced(engine, rows, app, should_stop, secrets)


def _advanced(
    engine: Engine,
    rows: Sequence[ContainerRow],
    app: DescribeAppResponse,
    should_stop: Callable[[], bool],
    secrets: frozenset[str] | None,
) -> DescribeAppResponse | None:
    app_id = app.app_id
    match next_step(app):
        case Restart() as restart:
            rounds.carry_out(engine, app, rows, restart, should_stop, secrets)
            return None
        case Fail(lost):
            _log.info("replica %s/%d failed; stopping the other replicas", lost.role, lost.id)
            cancel(engine, app_id)
            return None
        case StopAuxiliary(roles, grace_s):
            _log.info("every essential replica has ended; stopping %s", ", ".join(roles))
            cancel(engine, app_id, roles=roles, grace_s=grace_s)
            return None
        case Place():
            placing.place(engine, app_id)
            return None
        case Finish():
            return app
        case Wait():
            return None


def wait(  # noqa: PLR0913 - one argument for each kind of caller
    engine: Engine,
    app_id: str,
    timeout_s: float | None = None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_look: Callable[[DescribeAppResponse], object] = lambda _: None,
    wake: threading.Event | None = None,
    outage_s: float = OUTAGE_S,
    usage: UsageMonitor | None = None,
    secrets: frozenset[str] | None = None,
) -> DescribeAppResponse:
    """Wait until every replica of an app has ended; carry out its failure policy and restarts.

    Waits through an outage of the daemon of ``outage_s`` seconds. ``should_stop`` is called before
    and after every look. Set ``wake`` to have the next look now; the pauses after that are short
    again. ``usage`` keeps what is read about a stall. ``secrets`` is that of `rounds.carry_out`.

    Raises:
        StopRequested: ``should_stop`` returned True; the app keeps running.
        AppNotFoundError: nothing of the app is on the daemon, or no longer.
        WaitTimeoutError: the app has not ended in time; it keeps running.
    """
    tolerance = OutageTolerance(outage_s)
    backoff, wake = Backoff(), wake or threading.Event()
    look = partial(_looked, engine, StallDetector(usage=usage), on_look)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        with tolerance:
            ended = poll_once(
                engine, app_id, should_stop=should_stop, on_look=look, secrets=secrets
            )
            if ended is not None:
                return ended
        if should_stop():
            raise StopRequested
        pause = backoff.next()
        if deadline is not None:
            pause = min(pause, deadline - time.monotonic())
            if pause <= 0:
                what = f"app {app_id!r} has not ended within {timeout_s:g} s; it keeps running."
                raise WaitTimeoutError(
                    what, fix="Wait again with a longer timeout_s, or cancel it."
                )
        if wake.wait(pause):
            wake.clear()
            backoff = Backoff(_LOOK_AGAIN_S)
        # The caller may have closed the connection meanwhile.
        if should_stop():
            raise StopRequested


def _looked(
    engine: Engine,
    detector: StallDetector,
    on_look: Callable[[DescribeAppResponse], object],
    app: DescribeAppResponse,
) -> None:
    on_look(app)
    detector.check(engine, app)
