"""What replicas get so that they can save a checkpoint before they are stopped."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels

if TYPE_CHECKING:
    from airflow_torchx.core.plan.options import Opts

#: Seconds between the signal that torchrun passes on to its workers and SIGKILL; its default is 30.
SHUTDOWN_TIMEOUT: Final = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
#: The signals that torchrun passes on.
SIGNALS_TO_HANDLE: Final = "PET_SIGNALS_TO_HANDLE"

# torchrun ends 1.3 s after it has killed its workers (PyTorch 2.13, 2 cores).
_TO_END_S: Final = 3
_DEFAULT_SIGNALS: Final = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")


def torchrun_env(opts: Opts) -> dict[str, str]:
    """Return variables of every replica, which all other sources of variables override.

    torchrun takes each signal that it passes on for its end: it kills workers that have not ended
    in time. So the time is that of a save, if this is longer than the grace period.
    """
    time_s = max(math.floor(opts.stop_grace_s) - _TO_END_S, math.ceil(opts.save_s or 0), 1)
    env = {SHUTDOWN_TIMEOUT: str(time_s)}
    if opts.checkpoint_signal is not None:
        env[SIGNALS_TO_HANDLE] = ",".join(
            dict.fromkeys((*_DEFAULT_SIGNALS, opts.checkpoint_signal))
        )
    return env


def checkpoint_labels(opts: Opts) -> dict[str, str]:
    """Return the labels by which any client can ask the replicas to save."""
    if opts.checkpoint_signal is None:
        return {}
    return {
        labels.CHECKPOINT_SIGNAL: opts.checkpoint_signal,
        labels.CHECKPOINT_S: f"{opts.save_s:g}",
    }
