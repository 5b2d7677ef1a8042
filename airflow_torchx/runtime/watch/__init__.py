"""One watch on each daemon for all triggers of a process: events, and looks that they ask for.

A thread follows the daemon's events and routes each of them, by app id, to those who wait for that
app. Another one looks: at first, after events, after every connect, and once a minute. Events only
say when to look; what is seen is the state table's, as everywhere.
"""

from __future__ import annotations

from airflow_torchx.runtime.watch.mailbox import (
    AppList,
    AppSnapshot,
    DaemonDown,
    Mailbox,
    Notification,
)
from airflow_torchx.runtime.watch.watch import Watch, Watches

__all__ = ["AppList", "AppSnapshot", "DaemonDown", "Mailbox", "Notification", "Watch", "Watches"]
