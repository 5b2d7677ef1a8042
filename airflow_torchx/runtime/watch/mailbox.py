"""What a watch reports about apps, and the mailbox that an event loop reads."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.errors import EngineError
    from airflow_torchx.specs import DescribeAppResponse


@dataclass(frozen=True, slots=True)
class AppSnapshot:
    """One look at an app; ``app`` is None when the daemon has no container of it."""

    app_id: str
    app: DescribeAppResponse | None


@dataclass(frozen=True, slots=True)
class AppList:
    """The ids of all apps of a name; snapshots of new ones were delivered before."""

    app_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class DaemonDown:
    """The daemon does not answer since this time on the monotonic clock; with the first error."""

    since_s: float
    why: EngineError


Notification: TypeAlias = AppSnapshot | AppList | DaemonDown


class Mailbox:
    """Notifications for one reader on an event loop, put there by other threads.

    Only the newest snapshot of each app is kept. A reader ``follows_name`` if it waits for all apps
    of a name.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, follows_name: bool = False) -> None:
        self.follows_name = follows_name
        #: The apps it is subscribed to; owned by `Subscriptions`.
        self.app_ids: set[str] = set()
        self._loop = loop
        self._unread: dict[object, Notification] = {}
        self._broken: BaseException | None = None
        self._came = asyncio.Event()

    async def next(self, timeout_s: float | None = None) -> Notification | None:
        """Return the oldest unread notification, waiting for one; None if none came in time.

        Raises:
            RuntimeError: the watch has failed, which is a bug of this package.
        """
        if not self._unread and self._broken is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._came.wait()
        if self._unread:
            notification = self._unread.pop(next(iter(self._unread)))
            if not self._unread:
                self._came.clear()
            return notification
        if self._broken is not None:
            raise RuntimeError("the watch on the Docker daemon has failed") from self._broken
        return None

    def put(self, notification: Notification) -> None:
        """Deliver a notification, from any thread."""
        self._soon(self._put, notification)

    def fail(self, why: BaseException) -> None:
        """Make `next` raise, from any thread."""
        self._soon(self._fail, why)

    def _soon(self, call: Callable[..., None], *args: object) -> None:
        # The loop of an abandoned mailbox may be closed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *args)

    def _put(self, notification: Notification) -> None:
        key = notification.app_id if isinstance(notification, AppSnapshot) else type(notification)
        if key is not DaemonDown:
            self._unread.pop(DaemonDown, None)
        self._unread[key] = notification
        self._came.set()

    def _fail(self, why: BaseException) -> None:
        self._broken = why
        self._came.set()
