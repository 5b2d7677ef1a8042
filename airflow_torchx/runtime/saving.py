"""Asks replicas to save a checkpoint."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.plan.identity import is_saving_name, saving_name
from airflow_torchx.errors import (
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.state.saving import Saving

_log = logging.getLogger(__name__)

# Between two looks at replicas that save.
_LOOK_S: Final = 0.5


def ask(
    engine: Engine, live: Sequence[ContainerRow], saving: Saving, *, cancelled: bool
) -> list[ContainerRow]:
    """Send the signal once to each replica that has not got it, and return those that got it.

    A container is renamed before that, by its name. Of several clients, one does so, and only that
    one sends the signal: torchrun ends the save of its workers at a second one.

    Raises:
        EngineError: the daemon refuses the signal. The replica may be asked again, unless it is
            about to be stopped: then this is a warning.
    """

    def send(row: ContainerRow) -> bool:
        own_name = saving_name(row.name, cancelled=cancelled)
        try:
            engine.rename(row.name, own_name)
        except (EngineConflictError, EngineNotFoundError):
            return False
        try:
            engine.signal(row.id, saving.signal)
        except EngineUnreachableError:
            # The replica may have got it.
            raise
        except EngineError as error:
            # By its name: another client may have renamed it meanwhile.
            with suppress(EngineError):
                engine.rename(own_name, row.name)
            if not cancelled:
                raise
            _log.warning("%s is stopped without a save: %s", row.name, error.what)
            return False
        return True

    rows = saving.unasked(live)
    sent = map_concurrently(send, rows, threads=max(1, len(rows)))
    return [row for row, is_sent in zip(rows, sent, strict=True) if is_sent]


def wait(look: Callable[[], list[ContainerRow]], saving: Saving) -> list[ContainerRow]:
    """Wait until the replicas that save have ended or their time is over; return all that run."""
    deadline = time.monotonic() + saving.seconds
    live = look()
    while any(is_saving_name(row.name) for row in live) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        live = look()
    return live


def counted(rows: Sequence[ContainerRow]) -> str:
    """Return how many replicas these are."""
    return f"{len(rows)} replica{'s' * (len(rows) != 1)}"
