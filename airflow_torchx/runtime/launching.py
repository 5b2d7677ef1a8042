"""Launches every container of a plan, or none."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, Protocol

from airflow_torchx.concurrency.parallel import StopRequested, map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu import ledger
from airflow_torchx.core.plan.identity import is_cancelled_name
from airflow_torchx.core.plan.plan_text import secret_values
from airflow_torchx.core.plan.redact import redact
from airflow_torchx.errors import (
    AppCancelledError,
    AppExistsError,
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
    LaunchError,
    LaunchInterruptedError,
    leftovers,
)
from airflow_torchx.runtime import folders, images, network, placing
from airflow_torchx.runtime.gpus.queue import MustWait
from airflow_torchx.runtime.lifecycle import described, not_found, rows_of, rows_of_launch
from airflow_torchx.runtime.phases import phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerSpec
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.job_plan import JobPlan
    from airflow_torchx.specs import DescribeAppResponse

_log = logging.getLogger(__name__)

#: What an interrupted launch leaves, for its error.
NOTHING_LEFT: Final = "Nothing was left behind."

# The daemon reserves a name before it lists the container with that name.
_REGISTRATION_PAUSES_S: Final = (0.1, 0.2, 0.4, 0.8, 0.0)


class Gpus(Protocol):
    """The GPUs of one launch; see `runtime.gpu_allocator.GpuAllocator`."""

    def allocate(self, plan: JobPlan) -> JobPlan:
        """Return the plan with GPUs that are claimed for it."""

    def commit(self) -> bool:
        """Return whether the created replicas hold the GPUs from now on."""

    def release(self) -> None:
        """Give up what was not committed. Idempotent."""


def launch(
    engine: Engine,
    plan: JobPlan,
    *,
    known: Mapping[str, bool] = images.NOTHING_KNOWN,
    gpus: Gpus | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    before_start: Callable[[str], object] | None = None,
) -> DescribeAppResponse:
    """Launch every container of a plan, or none, and return the app as the daemon lists it.

    It pulls images, ensures the network, takes GPUs, creates all containers, then starts them. On
    any error, also on Ctrl-C, it removes every container that it created. ``known`` says whether
    the daemon has an image; others are looked up. ``should_stop`` is called several times a second.
    ``before_start`` is called with the id of the first container before any one is started.

    Raises:
        AppCancelledError: another client cancelled the app before its launch was over.
        AppExistsError: an app with this id exists; it is not changed.
        AppNotFoundError: another client deleted the app before it had started, or right after.
        ImagePullError: an image cannot be pulled; nothing was created.
        LaunchError: a container could not be created or started; the message names the replica.
        LaunchInterruptedError: ``should_stop`` returned True.
        MustWait: the app has to wait for GPUs, and keeps its place in the queue.
    """
    ids: dict[str, str] = {}
    try:
        images.ensure(engine, plan.images, plan.pull_policy, known=known, should_stop=should_stop)
        network.ensure(engine, plan.network)
        _create(engine, plan, ids, gpus, should_stop, known=known)
        _make_folders(engine, plan, ids, before_start)
        with phase("start"):
            _start(engine, plan, ids, should_stop)
        return _launched(engine, plan)
    except MustWait:
        raise
    except StopRequested as error:
        left = _undo(engine, plan, ids, gpus)
        fix = leftovers(left, placing.docker_cli(engine).remove) or NOTHING_LEFT
        what = f"the launch of app {plan.app_id!r} was stopped."
        raise LaunchInterruptedError(what, fix=fix) from error
    except _ReplicaError as failed:
        unanswered = isinstance(failed.cause, EngineUnreachableError)
        left = _undo(engine, plan, ids, gpus, unanswered=unanswered)
        raise _launch_error(engine, plan, failed, left) from _shown(failed.cause, plan)
    except BaseException as error:
        _note(engine, error, _undo(engine, plan, ids, gpus))
        raise


class _ReplicaError(Exception):
    """The Engine refused to create or start the container of one replica."""

    def __init__(self, spec: ContainerSpec, cause: EngineError) -> None:
        super().__init__(spec.name)
        self.spec = spec
        self.cause = cause


def _create(
    engine: Engine,
    plan: JobPlan,
    ids: dict[str, str],
    gpus: Gpus | None,
    should_stop: Callable[[], bool],
    *,
    known: Mapping[str, bool],
) -> None:
    """Create all containers, with GPUs that no other app has; see `_create_all`."""
    while True:
        placed = _allocated(engine, plan, gpus, should_stop) if gpus else plan
        began_s = time.time()
        with phase("create"):
            _create_all(engine, placed, ids, should_stop, known=known)
        if gpus is None or gpus.commit():
            return
        # Later, an app that waits may have removed the replicas, because they have not started.
        is_early = time.time() < began_s + ledger.UNSTARTED_S
        if is_early and len(rows_of_launch(engine, plan.app_id, plan.launch_id)) < len(ids):
            raise not_found(engine, plan.app_id)
        _log.warning("another container has the GPUs of app %s, which waits again", plan.app_id)
        if left := _undo(engine, plan, ids):
            cause = EngineError(f"cannot remove {', '.join(left)}")
            raise _ReplicaError(plan.containers[0], cause)
        ids.clear()


def _allocated(
    engine: Engine, plan: JobPlan, gpus: Gpus, should_stop: Callable[[], bool]
) -> JobPlan:
    """Return the plan with GPUs; pull images that are removed while the app waits for them.

    The containers of the queue need an image of the app.
    """
    was_there = False
    while True:
        try:
            return gpus.allocate(plan)
        except EngineNotFoundError:
            # Another app that waits may have pulled the image meanwhile.
            is_there = _are_there(engine, plan.images)
            if is_there and was_there:
                raise
            images.ensure(engine, plan.images, plan.pull_policy, should_stop=should_stop)
            if not _are_there(engine, plan.images):
                raise
            was_there = is_there


def _are_there(engine: Engine, names: Iterable[str]) -> bool:
    return all(engine.find_image(name) is not None for name in names)


def _create_all(
    engine: Engine,
    plan: JobPlan,
    ids: dict[str, str],
    should_stop: Callable[[], bool],
    *,
    known: Mapping[str, bool],
) -> None:
    """Create all containers; add each created one to ``ids``, by name."""

    def create(spec: ContainerSpec) -> None:
        try:
            ids[spec.name] = engine.create(spec)
        except EngineError as error:
            raise _ReplicaError(spec, error) from error

    def create_each() -> None:
        # Two launches of one app race for the first name; the daemon gives it to one of them.
        map_concurrently(create, plan.containers[:1], should_stop=should_stop)
        map_concurrently(create, plan.containers[1:], should_stop=should_stop)

    try:
        create_each()
    except _ReplicaError as failed:
        if ids or not known or not isinstance(failed.cause, EngineNotFoundError):
            raise
        # The image was removed after the lookup.
        images.ensure(engine, plan.images, plan.pull_policy, should_stop=should_stop)
        create_each()


def _make_folders(
    engine: Engine,
    plan: JobPlan,
    ids: Mapping[str, str],
    before_start: Callable[[str], object] | None,
) -> None:
    """Create the folders of the mounts, and call ``before_start``."""
    first = plan.containers[0]
    try:
        if plan.folders:
            folders.create(engine, ids[first.name], plan.folders)
        if before_start is not None:
            before_start(ids[first.name])
    except EngineError as error:
        raise _ReplicaError(first, error) from error


def _start(
    engine: Engine, plan: JobPlan, ids: Mapping[str, str], should_stop: Callable[[], bool]
) -> None:
    """Start all containers of ``ids``; on a swarm, they may wait for room."""
    if placing.has_nodes(engine):
        placing.start(engine, plan, should_stop)
        return

    def start(spec: ContainerSpec) -> None:
        try:
            engine.start(ids[spec.name])
        except EngineError as error:
            raise _ReplicaError(spec, error) from error

    map_concurrently(start, plan.containers, should_stop=should_stop)


def _launched(engine: Engine, plan: JobPlan) -> DescribeAppResponse:
    """Return the launched app, from one list of its containers.

    The name of the first container is the lock of a launch. An app whose first container was
    removed or cancelled no longer holds it, so containers of another launch may exist.
    """
    rows = rows_of(engine, plan.app_id)
    if any(row.labels.get(labels.LAUNCH_ID) != plan.launch_id for row in rows):
        raise AppExistsError(plan.app_id)
    if any(is_cancelled_name(row.name) for row in rows):
        what = f"app {plan.app_id!r} is CANCELLED: another client stopped it during its launch."
        raise AppCancelledError(what, fix="The launch was undone. Launch the app again.")
    if (found := described(engine, plan.app_id, rows)) is None:
        raise not_found(engine, plan.app_id)
    return found


def _undo(
    engine: Engine,
    plan: JobPlan,
    ids: Mapping[str, str],
    gpus: Gpus | None = None,
    *,
    unanswered: bool = False,
) -> tuple[str, ...]:
    """Remove what this launch created; return the names of containers that may be left.

    A container whose creation was not answered has no id here, so it is found by its labels. A
    launch that lost the race for the first name removes nothing: the winner may have the same
    labels.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C again; everything was removed first.
    """
    removed = set()

    def remove(named: tuple[str, str]) -> None:
        try:
            engine.remove(named[1])
            removed.add(named[0])
        except EngineError as error:
            _log.warning("cannot remove container %s: %s", named[0], error)

    try:
        if gpus is not None:
            _release(gpus)
        if not (ids or unanswered):
            return ()
        try:
            found = {
                row.name: row.id for row in rows_of_launch(engine, plan.app_id, plan.launch_id)
            }
            names = set(found)
        except EngineError as error:
            _log.warning("cannot list the containers of app %s: %s", plan.app_id, error)
            found, names = dict(ids), {spec.name for spec in plan.containers}
        map_concurrently(remove, list(found.items()))
        return tuple(sorted(names - removed))
    except KeyboardInterrupt as error:
        _note(engine, error, _undo(engine, plan, ids, gpus, unanswered=unanswered))
        raise


def _release(gpus: Gpus) -> None:
    try:
        gpus.release()
    except EngineError as error:
        _log.warning("cannot leave the queue for GPUs: %s", error)


def _note(engine: Engine, error: BaseException, left: Sequence[str]) -> None:
    if left:
        error.add_note(leftovers(left, placing.docker_cli(engine).remove))


def _launch_error(
    engine: Engine, plan: JobPlan, failed: _ReplicaError, left: Sequence[str]
) -> AppExistsError | LaunchError:
    """Return the error that names the replica and the cause."""
    if isinstance(failed.cause, EngineConflictError) and not left:
        for pause_s in _REGISTRATION_PAUSES_S:
            if rows_of(engine, plan.app_id):
                return AppExistsError(plan.app_id)
            time.sleep(pause_s)
    replica = f"{failed.spec.role}/{failed.spec.replica}"
    text = redact(str(failed.cause), secret_values(plan))
    remove = placing.docker_cli(engine).remove
    return LaunchError(plan.app_id, replica, text, left=left, remove=remove)


def _shown(cause: EngineError, plan: JobPlan) -> EngineError | None:
    """Return the cause for the traceback; None if its message contains a secret."""
    return cause if redact(str(cause), secret_values(plan)) == str(cause) else None
