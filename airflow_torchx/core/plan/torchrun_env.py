"""The environment by which torchrun leaves its workers the time to save that Docker gives it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow_torchx.core.plan.options import Opts

#: Seconds between the signal that torchrun passes on to its workers and SIGKILL; its default is 30.
FAULT_HANDLER: Final = "PYTHONFAULTHANDLER"
SHUTDOWN_TIMEOUT: Final = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"

# torchrun ends 1.3 s after it has killed its workers (PyTorch 2.13, 2 cores).
_TO_END_S: Final = 3


def torchrun_env(opts: Opts) -> dict[str, str]:
    """Return variables of every replica, which all other sources of variables override."""
    timeout = {SHUTDOWN_TIMEOUT: str(max(1, math.floor(opts.stop_grace_s) - _TO_END_S))}
    # Python writes its stacks at SIGABRT then, which a client sends to an app that has stalled.
    return timeout if opts.stalled_after_s is None else timeout | {FAULT_HANDLER: "1"}
