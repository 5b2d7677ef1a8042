"""The watch on one daemon: its threads, mailboxes and calls."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow_torchx.errors import EngineUnreachableError
from airflow_torchx.runtime.engines import connect
from airflow_torchx.runtime.watch.clock import SYSTEM
from airflow_torchx.runtime.watch.event_reader import EventReader
from airflow_torchx.runtime.watch.gpu_events import GpuEvents
from airflow_torchx.runtime.watch.mailbox import Mailbox
from airflow_torchx.runtime.watch.poller import Poller
from airflow_torchx.runtime.watch.subscriptions import Subscriptions
from airflow_torchx.runtime.watch.usage_sampling import UsageSampling

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from contextlib import AbstractContextManager

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.core.engine.images import RegistryLogin
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.watch.clock import Clock

_Answer = TypeVar("_Answer")

# Stopping an app mostly waits for its grace period to pass.
_ACTORS: Final = 16
# Docker 20.10 takes a second for what one container uses. With threads of their own, looks at 200
# apps delay no stop.
_OBSERVERS: Final = 8
_FIRST_ANSWER_S: Final = 20.0
# Between two checks whether the watch is still wanted.
_TICK_S: Final = 1.0


class Watch:
    """One event stream and one polling thread for all waits on a daemon.

    Args:
        connect: returns a connection to the daemon; called in a thread of the watch.
        is_wanted: called about once a second; False closes the watch.
    """

    def __init__(
        self,
        connect: Callable[[], Engine],
        is_wanted: Callable[[], bool],
        clock: Clock = SYSTEM,
    ) -> None:
        self.clock = clock
        self._is_wanted = is_wanted
        self._subscriptions = Subscriptions(clock)
        # Not random.random: its state is the whole process's, which others may have seeded.
        self._reader = EventReader(
            self._subscriptions, connect, random.SystemRandom().random, clock
        )
        self._poller = Poller(self._subscriptions, lambda: self._reader.engine, self._reader.renew)
        self._actors = ThreadPoolExecutor(_ACTORS, "torchx-watch-act")
        self._observers = ThreadPoolExecutor(_OBSERVERS, "torchx-watch-observe")
        #: Reads what replicas use.
        self.usage = UsageSampling(self._engine)
        self._asked: set[Future[Any]] = set()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._gpu_events: GpuEvents | None = None
        for run, name in ((self._reader.run, "events"), (self._look, "looks")):
            threading.Thread(
                target=self._guard, args=(run,), name=f"torchx-watch-{name}", daemon=True
            ).start()

    @property
    def is_closed(self) -> bool:
        """Whether the watch has ended."""
        return self._closed.is_set()

    @contextlib.contextmanager
    def mailbox(self, *, app_id: str = "", app_name: str = "") -> Iterator[Mailbox]:
        """Wait for an app, or for all apps of a name, on the running event loop.

        The first notification of an app comes after the first look, and another one after every
        change.
        """
        mailbox = Mailbox(asyncio.get_running_loop(), follows_name=bool(app_name))
        self._subscriptions.add(mailbox, app_id=app_id, app_name=app_name)
        try:
            yield mailbox
        finally:
            self._subscriptions.drop(mailbox)

    @contextlib.contextmanager
    def gpu_changes(self) -> Iterator[asyncio.Event]:
        """Get an event that is set whenever GPUs of the daemon may have become free."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            with contextlib.suppress(RuntimeError):  # a loop that was closed
                loop.call_soon_threadsafe(changed.set)

        with self._lock:
            events = self._gpu_events = self._gpu_events or GpuEvents(self._engine)
        key = events.subscribe(notify)
        try:
            yield changed
        finally:
            events.unsubscribe(key)

    async def ask(self, call: Callable[[Engine], _Answer]) -> _Answer:
        """Make a blocking call in a thread of its own.

        The call is finished even if the caller is cancelled.

        Raises:
            EngineUnreachableError: the daemon has not answered yet.
        """
        return await self._ask(self._actors, call)

    async def observe(self, call: Callable[[Engine], _Answer]) -> _Answer:
        """Do as `ask` does, in threads for calls that can wait, and that many apps make often."""
        return await self._ask(self._observers, call)

    async def _ask(self, pool: ThreadPoolExecutor, call: Callable[[Engine], _Answer]) -> _Answer:
        # With the context by which Airflow routes log lines: what acts on an app logs for its task.
        context = contextvars.copy_context()
        asked = pool.submit(context.run, lambda: call(self._engine()))
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)
        # Otherwise a cancelled caller cancels a call that has not begun.
        return await asyncio.shield(asyncio.wrap_future(asked))

    def _engine(self) -> Engine:
        engine = self._reader.engine_within(_FIRST_ANSWER_S)
        if engine is None:
            raise EngineUnreachableError(
                f"the Docker daemon has not answered within {_FIRST_ANSWER_S:g} s.",
                fix="Check that it runs and is not stuck (`docker version`).",
            )
        return engine

    def _look(self) -> None:
        while self._asked or self._is_wanted():
            self._poller.look(_TICK_S)
        self._close(None)

    def _close(self, why: BaseException | None) -> None:
        self._closed.set()
        self._subscriptions.close(why)
        self._reader.close()
        if self._gpu_events is not None:
            self._gpu_events.close()
        self._actors.shutdown(wait=False)
        self._observers.shutdown(wait=False)
        self.usage.close()
        if self._reader.engine is not None:
            self._reader.engine.close()

    def _guard(self, run: Callable[[], None]) -> None:
        """Let an error of one thread close the watch, and raise it."""
        try:
            run()
        except BaseException as why:
            self._close(why)
            raise


@dataclass(eq=False)
class _Shared:
    """A watch, its number of users, and when the last of them left."""

    users: int = 0
    left_s: float = 0.0
    watch: Watch | None = None


class Watches:
    """The watches of a process: one per daemon, while it has users and ``linger_s`` seconds longer.

    The next app often comes soon.
    """

    def __init__(self, linger_s: float = 5.0, clock: Clock = SYSTEM) -> None:
        self._linger_s = linger_s
        self._clock = clock
        self._lock = threading.Lock()
        self._shared: dict[Hashable, _Shared] = {}

    @contextlib.contextmanager
    def on(self, key: Hashable, connect: Callable[[], Engine]) -> Iterator[Watch]:
        """Use the watch on the daemon that ``key`` identifies and ``connect`` connects to."""
        with self._lock:
            shared = self._shared.get(key)
            if shared is None or shared.watch is None or shared.watch.is_closed:
                shared = self._shared[key] = _Shared()
                mine = shared
                shared.watch = Watch(connect, lambda: self._is_wanted(key, mine), self._clock)
            shared.users += 1
            watch = shared.watch
        try:
            yield watch
        finally:
            with self._lock:
                shared.users -= 1
                shared.left_s = self._clock()

    def on_engine(
        self, endpoint: Endpoint, logins: tuple[RegistryLogin, ...] = ()
    ) -> AbstractContextManager[Watch]:
        """Use the watch on a daemon or a swarm; ``logins`` are for what the next round pulls."""
        # Without a host, the endpoint is that of the environment.
        environment = os.environ.get("DOCKER_HOST"), os.environ.get("DOCKER_CONTEXT")
        return self.on((endpoint, logins, environment), partial(connect, endpoint, logins))

    def _is_wanted(self, key: Hashable, shared: _Shared) -> bool:
        with self._lock:
            if shared.users or self._clock() < shared.left_s + self._linger_s:
                return True
            if self._shared.get(key) is shared:
                del self._shared[key]
            return False
