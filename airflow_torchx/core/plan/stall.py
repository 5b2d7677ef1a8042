"""What the containers of an app need if it is to be stopped when it hangs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels

if TYPE_CHECKING:
    from airflow_torchx.core.plan.options import Opts

#: With it, Python writes its stacks at SIGABRT:
#: https://docs.python.org/3/using/cmdline.html#envvar-PYTHONFAULTHANDLER
FAULT_HANDLER: Final = "PYTHONFAULTHANDLER"


def stall_env(opts: Opts) -> dict[str, str]:
    """Return variables of every replica, which all other sources of variables override."""
    return {} if opts.stalled_after_s is None else {FAULT_HANDLER: "1"}


def stall_labels(opts: Opts) -> dict[str, str]:
    """Return the labels by which any process that waits for the app stops it when it hangs."""
    after_s = opts.stalled_after_s
    return {} if after_s is None else {labels.STALLED_AFTER: f"{after_s:g}"}
