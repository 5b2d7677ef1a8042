"""What is seen of an app, and who waits for it on an event loop."""

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
    """What a look has found of an app; None when nothing of it is on the daemon."""

    app_id: str
    app: DescribeAppResponse | None


@dataclass(frozen=True, slots=True)
class AppList:
    """All apps of a name that are on the daemon; what was seen of them has come before."""

    app_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class DaemonDown:
    """The daemon gives no answer.

    Args:
        since_s: since when, on the monotonic clock.
        why: what the first request without an answer raised.
    """

    since_s: float
    why: EngineError


Notification: TypeAlias = AppSnapshot | AppList | DaemonDown


class Mailbox:
    """A mailbox on an event loop, filled by other threads.

    Of each app only the newest notification is kept: who reads seldom misses what has changed back.

    Args:
        loop: where it is read.
        follows_name: it waits for all apps of a name.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, follows_name: bool = False) -> None:
        self.follows_name = follows_name
        #: The apps that it is told of; the subscriptions's.
        self.app_ids: set[str] = set()
        self._loop = loop
        self._unread: dict[object, Notification] = {}
        self._broken: BaseException | None = None
        self._came = asyncio.Event()

    async def next(self, timeout_s: float | None = None) -> Notification | None:
        """Return the oldest unread notification, waiting for one; None if none came in time.

        Args:
            timeout_s: seconds to wait at most; None for as long as it takes.

        Raises:
            RuntimeError: the watch has failed, which is an error of this package.
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
        """Hand over a notification, from any thread."""
        self._soon(self._put, notification)

    def fail(self, why: BaseException) -> None:
        """Let whoever waits know that nothing more will come, from any thread."""
        self._soon(self._fail, why)

    def _soon(self, call: Callable[..., None], *args: object) -> None:
        # The loop of a mailbox that was left behind may be closed.
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
