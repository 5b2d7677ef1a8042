"""Event-driven waiting: one watch per daemon, shared by all triggers of a process.

One thread reads the daemon's events and routes each by app id. Another thread looks at apps: when a
wait begins, after events, after every connect, and once a minute. Events only say when to look; the
state comes from the same table as everywhere.
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
