"""Follows an app until it ends or the user interrupts."""

from __future__ import annotations

import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from airflow_torchx.cli.apps import stop
from airflow_torchx.cli.log import ScreenLog
from airflow_torchx.cli.screen import paint, print_message
from airflow_torchx.core.state.describe import has_ended
from airflow_torchx.runtime import attach
from airflow_torchx.runtime.gang_log import Detached

if TYPE_CHECKING:
    from airflow_torchx.cli.interrupts import Interrupts
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.gang_log import Cursors
    from airflow_torchx.specs import DescribeAppResponse


_ANSWERS: Final = {"": True, "y": True, "yes": True, "n": False, "no": False}


def follow(
    engine: Engine, app_id: str, interrupts: Interrupts, secrets: frozenset[str]
) -> DescribeAppResponse:
    """Show all logs of an app until it ends, and return its description.

    Errors of workers that made the app restart are logged without ``secrets``.

    Ctrl-C on a terminal asks whether to cancel the app. Without a terminal, and on SIGTERM, the app
    is cancelled.

    Raises:
        KeyboardInterrupt: a second signal was received; the app keeps running.
        AppNotFoundError: the app was removed.
        EngineUnreachableError: the daemon was unreachable for more than a minute.
    """
    after: Cursors = {}
    watch = partial(attach.watch, write_to=ScreenLog, secrets=secrets)
    app = attach.look(engine, app_id)
    while True:
        try:
            return watch(engine, app, after, interrupts.pending)
        except Detached as detached:
            after = detached.cursors
        app = attach.look(engine, app_id)
        if not has_ended(app):
            if not _should_cancel(app_id, interrupts):
                interrupts.reset()
                print_message(f"app {app_id} keeps running")
                continue
            with interrupts.replying(f"app {app_id} is already being stopped"):
                stop(engine, app)
        # The app has ended, so only a second signal may stop this.
        return watch(engine, app, after, lambda: False)


def _should_cancel(app_id: str, interrupts: Interrupts) -> bool:
    """Ask the user on a terminal, else return True.

    Raises:
        KeyboardInterrupt: the user answers with Ctrl-C or the end of input.
    """
    can_ask = sys.stdin.isatty() and sys.stderr.isatty()
    if interrupts.received is not signal.SIGINT or not can_ask:
        return True
    try:
        with interrupts.prompting():
            return _ask(f"cancel app {app_id}?")
    except KeyboardInterrupt:
        if interrupts.is_sigterm:
            return True
        raise


def _ask(question: str) -> bool:
    """Repeat a question until the answer is yes or no.

    Raises:
        KeyboardInterrupt: the input has ended.
    """
    painted = paint(question, "bold", sys.stderr)
    while True:
        sys.stderr.write(f"\n{painted} [Y/n]  (Ctrl-C again leaves it running) ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise KeyboardInterrupt
        if (answer := line.strip().lower()) in _ANSWERS:
            return _ANSWERS[answer]
