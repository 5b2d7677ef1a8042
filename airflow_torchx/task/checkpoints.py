"""Copies the checkpoints of a task's app from and to a URL of Airflow's object storage."""

from __future__ import annotations

import contextvars
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from airflow_torchx.airflow_compat import masked
from airflow_torchx.concurrency.parallel import StopRequested, call_until
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.amounts import counted, size
from airflow_torchx.core.plan.checkpoint_versions import stored_checkpoints
from airflow_torchx.core.plan.checkpoints import cache_volume, is_of_one_run
from airflow_torchx.core.state import describe
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.errors import AirflowTorchXError, CheckpointError
from airflow_torchx.hooks import object_storage
from airflow_torchx.runtime import checkpoint_sync
from airflow_torchx.runtime.attach import look
from airflow_torchx.runtime.checkpoint_storage import CheckpointStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.checkpoint_versions import StoredCheckpoints
    from airflow_torchx.runtime.checkpoint_sync import Uploaded
    from airflow_torchx.specs import DescribeAppResponse

_log = structlog.get_logger("airflow_torchx.task")


class CheckpointUploads:
    """Uploads the checkpoints of one app; does nothing if they have no URL.

    Args:
        engine: the daemon of the app.
        filesystem: returns fsspec's file system for a URL, and the path in it.
        now: the clock.
    """

    def __init__(
        self,
        engine: Engine,
        filesystem: Callable[[str], tuple[Any, str]] = object_storage,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._filesystem = filesystem
        self._now = now
        self._app_id = ""
        self._stored: StoredCheckpoints | None = None
        self._storage: CheckpointStorage | None = None
        self._running: Future[Uploaded] | None = None
        self._closed = threading.Event()
        self._has_warned = False
        self._has_all = False
        #: When the next upload is due, in seconds since 1970; None without a URL.
        self.due_s: float | None = None

    def fetch_before(
        self, of: Mapping[str, str], should_stop: Callable[[], bool]
    ) -> Callable[[str], None] | None:
        """Return what to call with a container before its start; None without a URL.

        It fetches the stored checkpoints if the volume does not have them. ``of`` are the labels of
        the container.

        Raises:
            CheckpointError: the URL cannot be opened or read; nothing was created yet.
        """
        keys = (labels.CHECKPOINT, labels.CHECKPOINT_FOLDER, labels.CHECKPOINT_INTERVAL)
        stored = stored_checkpoints(*map(of.get, keys))
        if stored is None:
            return None
        storage = CheckpointStorage(self._filesystem, stored)
        storage.pointer()

        def fetch(container_id: str) -> None:
            found = checkpoint_sync.fetch(self._engine, container_id, stored, storage, should_stop)
            if found is not None:
                number, files = found.version.number, counted(len(found.files), "file")
                _log.info("fetched version %d of %s: %s", number, stored.name, files)

        return fetch

    def begin(self, app: DescribeAppResponse, due_s: float | None = None) -> None:
        """Take the URL from a launched app; ``due_s`` is when the next upload is due, if known."""
        keys = (describe.CHECKPOINT, describe.CHECKPOINT_FOLDER, describe.CHECKPOINT_INTERVAL)
        self._app_id, self._stored = app.app_id, stored_checkpoints(*map(app.metadata.get, keys))
        if self._stored is not None:
            self.due_s = self._next_s if due_s is None else due_s

    def check(self) -> None:
        """Start an upload in a thread if it is due; call it several times a second.

        A failure is a warning, and the next upload is tried after the usual time.
        """
        if self._running is not None and self._running.done():
            running, self._running = self._running, None
            self._log_end(running.result)
            self.due_s = self._next_s
        if self.due_s is None or self._running is not None or self._now() < self.due_s:
            return
        pool = ThreadPoolExecutor(1, "torchx-upload")
        self._running = pool.submit(contextvars.copy_context().run, self._opened())
        pool.shutdown(wait=False)

    def flush(self, should_stop: Callable[[], bool]) -> None:
        """Upload if it is due, and wait for that; a failure is a warning."""
        if self.due_s is not None and self._now() >= self.due_s:
            self._log_end(partial(call_until, self._opened(), should_stop))
            self.due_s = self._next_s

    def finish(self, should_stop: Callable[[], bool], *, has_succeeded: bool) -> None:
        """Upload what an app that has ended has left.

        Raises:
            CheckpointError: the app has succeeded, and the upload failed. After a failed app this
                is a warning.
        """
        if self._stored is None:
            return
        if self._running is not None:
            running, self._running = self._running, None
            self._log_end(partial(call_until, running.result, should_stop))
        upload = partial(call_until, self._opened(), should_stop)
        if not has_succeeded:
            self._log_end(upload)
            return
        try:
            done = upload()
            self._log_upload(done)
            self._has_all = not done.skipped
        except StopRequested:
            raise self._not_uploaded("the task was asked to end") from None
        except AirflowTorchXError as error:
            raise self._not_uploaded(error.what.rstrip(".")) from error

    def remove_volume(self) -> None:
        """Remove the volume of an app whose containers are gone, if it is of no use any more.

        The URL has all its files after `finish`, and no other run uses it. Otherwise, and without
        a URL, nothing is done. A failure is a warning.
        """
        if self._stored is None or not self._has_all or not is_of_one_run(self._stored.scope):
            return
        try:
            self._engine.remove_volume(cache_volume(self._stored.url, self._stored.scope))
        except AirflowTorchXError as error:
            _log.warning("the volume of the checkpoints is left: %s", masked(error.what))

    def close(self) -> None:
        """Stop an upload that is in progress; a later one is done by another process."""
        self._closed.set()

    @property
    def _next_s(self) -> float:
        return self._now() + (self._stored.interval_s if self._stored else 0.0)

    def _opened(self) -> Callable[[], Uploaded]:
        """Return the upload, which a thread may call: it asks Airflow for nothing any more."""
        problem = None
        try:
            if self._storage is None and self._stored is not None:
                self._storage = CheckpointStorage(self._filesystem, self._stored)
        except CheckpointError as error:
            problem = error

        def upload() -> Uploaded:
            if problem is not None:
                raise problem
            return self._upload()

        return upload

    def _upload(self) -> Uploaded:
        assert self._stored is not None  # noqa: S101 - for mypy
        assert self._storage is not None  # noqa: S101
        ids = [one.container_id for one in replicas_of(look(self._engine, self._app_id))]
        container_id = next(filter(None, ids), "")
        return checkpoint_sync.upload(
            self._engine, container_id, self._stored, self._storage, self._closed.is_set
        )

    def _log_end(self, upload: Callable[[], Uploaded]) -> None:
        try:
            self._log_upload(upload())
        except StopRequested:
            _log.info("an upload of checkpoints was broken off")
        except AirflowTorchXError as error:
            _log.warning("checkpoints of app %s: %s", self._app_id, masked(error.what))

    def _log_upload(self, done: Uploaded) -> None:
        if done.skipped and not self._has_warned:
            self._has_warned = True
            what, first = counted(len(done.skipped), "path"), done.skipped[0]
            _log.warning("not uploaded: %s, like %r, not regular files", what, first)
        if done.version is not None and self._stored is not None:
            _log.info(
                "uploaded version %d of %s: %s, %s of them new",
                done.version.number,
                self._stored.name,
                counted(done.files, "file"),
                size(done.copied_bytes),
            )

    def _not_uploaded(self, why: str) -> CheckpointError:
        assert self._stored is not None  # noqa: S101 - for mypy
        volume = cache_volume(self._stored.url, self._stored.scope)
        what = f"app {self._app_id!r} has succeeded, but its checkpoints were not uploaded: {why}."
        fix = f"The files are still in the volume {volume} of the daemon; a retry uploads them."
        return CheckpointError(what, fix=fix)
