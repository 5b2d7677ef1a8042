"""Follow an app until it ends, or until somebody has had enough."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Final

from airflow_torchx.cli.apps import stop
from airflow_torchx.cli.log import ScreenLog
from airflow_torchx.cli.screen import paint, say
from airflow_torchx.runtime import attach
from airflow_torchx.runtime.gang_log import Detached
from airflow_torchx.specs import is_terminal

if TYPE_CHECKING:
    from airflow_torchx.cli.interrupts import Interrupts
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.gang_log import Cursors
    from airflow_torchx.specs import DescribeAppResponse


_ANSWERS: Final = {"": True, "y": True, "yes": True, "n": False, "no": False}


def follow(engine: Engine, app_id: str, interrupts: Interrupts) -> DescribeAppResponse:
    """Show all logs of an app until it ends, and return how it ended.

    After Ctrl-C on a terminal the user is asked whether to cancel the app; elsewhere, and after
    SIGTERM, it is cancelled.

    Args:
        engine: the daemon.
        app_id: the app.
        interrupts: notes signals meanwhile.

    Raises:
        KeyboardInterrupt: a second signal came: the app is left as it is.
        AppNotFoundError: somebody removed the app.
        EngineUnreachableError: the daemon is away for more than a minute.
    """
    after: Cursors = {}
    while True:
        try:
            return attach.watch(engine, app_id, after, interrupts.pending, ScreenLog)
        except Detached as detached:
            after = detached.cursors
        app = attach.look(engine, app_id)
        if not is_terminal(app.state):
            if not _is_to_be_cancelled(app_id, interrupts):
                interrupts.forget()
                say(f"app {app_id} goes on")
                continue
            with interrupts.answered(f"app {app_id} is being stopped already"):
                stop(engine, app)
        # Nothing stops this one but a second signal: the app has ended.
        return attach.watch(engine, app_id, after, lambda: False, ScreenLog)


def _is_to_be_cancelled(app_id: str, interrupts: Interrupts) -> bool:
    """Ask, if there is somebody to ask.

    Raises:
        KeyboardInterrupt: a second Ctrl-C, or the end of the input, is the answer.
    """
    if interrupts.noted is not signal.SIGINT:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    try:
        with interrupts.asking():
            return _answer(f"cancel app {app_id}?")
    except KeyboardInterrupt:
        if interrupts.is_order:
            return True
        raise


def _answer(question: str) -> bool:
    """Ask until there is an answer.

    Raises:
        KeyboardInterrupt: the input has ended.
    """
    painted = paint(question, "bold", sys.stderr)
    while True:
        sys.stderr.write(f"\n{painted} [Y/n]  (Ctrl-C again leaves it running) ")
        sys.stderr.flush()
        written = sys.stdin.readline()
        if not written:
            raise KeyboardInterrupt
        if (answer := written.strip().lower()) in _ANSWERS:
            return _ANSWERS[answer]
