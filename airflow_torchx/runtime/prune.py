"""Finds and removes what has no owner on a daemon; `core.task.prune` decides."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.amounts import counted
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.state.describe import without_copies
from airflow_torchx.core.task.prune import (
    GONE,
    Action,
    Found,
    LaunchedContainers,
    Phase,
    Policy,
    TaskKey,
    is_over,
    leftover,
    surplus_images,
    verdict,
    volume_verdict,
)
from airflow_torchx.core.task.shutdown import UNKNOWN
from airflow_torchx.core.workspace.recipe import own_tags
from airflow_torchx.errors import (
    AppNotFoundError,
    EngineConflictError,
    EngineError,
    EngineUnreachableError,
)
from airflow_torchx.runtime import lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerRow, VolumeRow
    from airflow_torchx.core.engine.protocol import Engine

_log = logging.getLogger(__name__)

#: Returns the states of task instances, `GONE` for those that Airflow does not have.
AskAirflow: TypeAlias = "Callable[[Collection[TaskKey]], Mapping[TaskKey, str | None]]"
#: Returns when the DAG run of a task instance has ended; None if it has not, or that is unknown.
RunEnd: TypeAlias = "Callable[[TaskKey], datetime | None]"

# So many apps are looked at again at once, right before they are stopped or removed.
_BATCH: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What a daemon has at one moment.

    Args:
        found: what has no owner.
        left: reasons why apps were left, with the number of apps.
        left_volumes: reasons why volumes with checkpoints were left, with the number of volumes.
        now: the time at the daemon.
    """

    found: tuple[Found, ...]
    left: Mapping[str, int]
    now: datetime
    left_volumes: Mapping[str, int] = field(default_factory=dict)

    @property
    def left_texts(self) -> tuple[str, ...]:
        """What was left, and why, like ``1 app: its task is running``."""
        kinds = (("app", self.left), ("volume", self.left_volumes))
        return tuple(
            f"{counted(count, kind)}: {why}"
            for kind, left in kinds
            for why, count in sorted(left.items())
        )


@dataclass(kw_only=True, slots=True)
class Pruned:
    """What was done.

    Args:
        done: what was stopped or removed.
        failed: what could not be removed, with the error.
        spared: what has got an owner since it was found, or was removed by another client.
    """

    done: list[Found] = field(default_factory=list)
    failed: list[tuple[Found, EngineError]] = field(default_factory=list)
    spared: list[Found] = field(default_factory=list)


def to_json(survey: Survey, pruned: Pruned) -> dict[str, object]:
    """Return the output of ``prune --json``; no key is ever removed."""
    return {
        "found": [one.to_json() for one in survey.found],
        "removed": [one.to_json() for one in pruned.done],
        "failed": [{**one.to_json(), "error": str(error)} for one, error in pruned.failed],
        "spared": [one.to_json() for one in pruned.spared],
        "left": dict(survey.left),
        "left_volumes": dict(survey.left_volumes),
    }


def unknown_end(_: TaskKey) -> None:
    """Return None, as Airflow cannot be asked."""


def unknown_states(tasks: Collection[TaskKey]) -> dict[TaskKey, str | None]:
    """Return `UNKNOWN` for all tasks, as Airflow cannot be asked."""
    return dict.fromkeys(tasks, UNKNOWN)


class Pruner:
    """Finds and removes what has no owner on one daemon.

    Args:
        engine: the daemon.
        ask: returns the states of task instances.
        policy: what the user wants to be removed.
        keep_images: how many images of each workspace are kept; None for the default.
        run_end: returns when a DAG run has ended; asked for tasks that are over.
    """

    def __init__(
        self,
        engine: Engine,
        ask: AskAirflow = unknown_states,
        policy: Policy = Policy(),  # noqa: B008 - frozen
        *,
        keep_images: int | None = None,
        run_end: RunEnd = unknown_end,
    ) -> None:
        self._engine = engine
        self._ask = ask
        self._policy = policy
        self._run_end = run_end
        self._keep_images = Opts().keep_images if keep_images is None else keep_images

    def survey(self) -> Survey:
        """Return what has no owner; change nothing.

        It makes one request for all containers, two for images, and one for each container of an
        ended app outside Airflow that is old enough. Airflow is asked last, and then the daemon for
        the sizes of what was found.
        """
        now = self._engine.info().system_time or datetime.now(UTC)
        rows = self._engine.rows({})
        images = self._engine.images.rows({labels.WORKSPACE_ID: None})
        launches = self._launches(rows)
        apps = [self._launched(of, now) for of in launches.values()]
        replicas = {row.id for of in launches.values() for row in of}
        others = [row for row in rows if row.id not in replicas]
        states = self._states(
            [app.task for app in apps] + [TaskKey.of(row.labels) for row in others]
        )
        found, left = self._of_apps(apps, states, now)
        found += [_container(*one) for one in self._leftovers(others, states, now)]
        for image in surplus_images(images, rows, self._keep_images):
            since = datetime.fromtimestamp(image.created_s, UTC)
            why = f"{self._keep_images} newer images of its workspace exist"
            found += [Found(kind="image", name=t, why=why, since=since) for t in own_tags(image)]
        volumes, left_volumes = self._volumes(now)
        sized = self._sized([*found, *volumes], launches)
        return Survey(found=sized, left=left, now=now, left_volumes=left_volumes)

    def _volumes(self, now: datetime) -> tuple[list[Found], Counter[str]]:
        """Return the volumes with checkpoints that no task will use, and why others are left."""
        found, left = list[Found](), Counter[str]()
        if not self._policy.checkpoints:
            return found, left
        rows = self._engine.unused_volumes({labels.CHECKPOINT: None})
        states = self._states(TaskKey.of(row.labels) for row in rows)
        for row in rows:
            task = TaskKey.of(row.labels)
            state = None if task is None else states.get(task, UNKNOWN)
            since = self._unused_since(row, task, state)
            unused_s = None if since is None else (now - since).total_seconds()
            action, why = volume_verdict(task, state, self._policy, unused_s)
            if action is Action.LEAVE or since is None:
                left[why] += 1
                continue
            found.append(Found(kind="volume", name=row.name, why=why, since=since, task=task))
        return found, left

    def _unused_since(
        self, row: VolumeRow, task: TaskKey | None, state: str | None
    ) -> datetime | None:
        if task is None or state == GONE:
            return row.created_at
        return self._run_end(task) if is_over(state) else None

    def _sized(
        self, found: Sequence[Found], launches: Mapping[tuple[str, str], Sequence[ContainerRow]]
    ) -> tuple[Found, ...]:
        """Return what was found, with the bytes that containers have written."""
        if not any(one.kind == "app" for one in found):
            return tuple(found)
        try:
            sizes = self._engine.sizes({labels.LAUNCH_ID: None})
        except EngineError as error:
            _log.warning("the sizes of containers are unknown: %s", error)
            return tuple(found)

        def sized(one: Found) -> Found:
            if one.kind != "app":
                return one
            rows = launches[one.name, one.key]
            known = [sizes[row.id] for row in rows if row.id in sizes]
            return replace(one, size_bytes=sum(known) if known else None)

        return tuple(sized(one) for one in found)

    def remove(self, found: Sequence[Found]) -> Pruned:
        """Remove or stop what `survey` has found, unless it has got an owner since.

        Each app is looked at again, with the state of its task, right before.
        """
        pruned = Pruned()
        apps = [one for one in found if one.kind == "app"]
        for start in range(0, len(apps), _BATCH):
            batch = apps[start : start + _BATCH]
            still = self._still_unowned(batch)
            pruned.spared += [one for one in batch if one not in still]
            self._each(still, self._remove_app, pruned)
        containers = [one for one in found if one.kind == "container"]
        left = self._still_leftover() if containers else set()
        pruned.spared += [one for one in containers if one.key not in left]
        self._each([one for one in containers if one.key in left], self._remove, pruned)
        self._each([one for one in found if one.kind == "image"], self._untag, pruned)
        # Last, because containers mount them.
        volumes = [one for one in found if one.kind == "volume"]
        unused = self._still_unused() if volumes else set()
        pruned.spared += [one for one in volumes if one.name not in unused]
        volumes = [one for one in volumes if one.name in unused]
        self._each(volumes, lambda one: self._engine.remove_volume(one.name), pruned)
        return pruned

    def _launches(self, rows: Iterable[ContainerRow]) -> dict[tuple[str, str], list[ContainerRow]]:
        """Return the containers of each launch of this package, by app id and launch id.

        TorchX's own apps have no launch id. A container that a user runs from an image which was
        committed from an app has the app's launch id, like the image, and may have its name.
        """
        committed = self._engine.images.rows({labels.LAUNCH_ID: None})
        of_images = {(image.id, image.labels[labels.LAUNCH_ID]) for image in committed}
        launches: dict[tuple[str, str], list[ContainerRow]] = {}
        for row in without_copies(rows):
            app_id, launch_id = row.labels.get(labels.APP_ID), row.labels.get(labels.LAUNCH_ID)
            if app_id and launch_id and (row.image_id, launch_id) not in of_images:
                launches.setdefault((app_id, launch_id), []).append(row)
        return launches

    def _launched(self, rows: Sequence[ContainerRow], now: datetime) -> LaunchedContainers:
        """Return a launch; if its age decides, with the time of its end."""
        app = LaunchedContainers.of(rows)
        is_old = (now - app.since).total_seconds() > self._policy.older_than_s
        if app.phase is not Phase.ENDED or not is_old:
            return app
        details = map_concurrently(self._engine.inspect, [row.id for row in rows])
        ends = [one.finished_at for one in details if one is not None and one.finished_at]
        return LaunchedContainers.of(rows, max([app.since, *ends]))

    def _states(self, tasks: Iterable[TaskKey | None]) -> Mapping[TaskKey, str | None]:
        asked = {task for task in tasks if task is not None}
        return self._ask(asked) if asked else {}

    def _of_apps(
        self,
        apps: Iterable[LaunchedContainers],
        states: Mapping[TaskKey, str | None],
        now: datetime,
    ) -> tuple[list[Found], Counter[str]]:
        found, left = [], Counter[str]()
        for app in apps:
            state = None if app.task is None else states.get(app.task, UNKNOWN)
            age_s = (now - app.since).total_seconds()
            action, why = verdict(app, state, self._policy, age_s)
            if action is Action.LEAVE:
                left[why] += 1
                continue
            found.append(
                Found(
                    kind="app",
                    name=app.app_id,
                    why=why,
                    since=app.since,
                    action=action,
                    task=app.task,
                    key=app.launch_id,
                )
            )
        return found, left

    def _still_unowned(self, batch: Sequence[Found]) -> list[Found]:
        """Return which apps have no owner now, as they had none when they were found."""
        now = self._engine.info().system_time or datetime.now(UTC)
        launches = self._launches(self._engine.rows({labels.LAUNCH_ID: None}))
        known = {(one.name, one.key) for one in batch}
        apps = [self._launched(of, now) for key, of in launches.items() if key in known]
        again, _ = self._of_apps(apps, self._states([app.task for app in apps]), now)
        decided = {(one.name, one.key): one.action for one in again}
        return [one for one in batch if decided.get((one.name, one.key)) is one.action]

    def _still_unused(self) -> set[str]:
        """Return the names of the volumes with checkpoints that no task will use now."""
        found, _ = self._volumes(self._engine.info().system_time or datetime.now(UTC))
        return {one.name for one in found}

    def _still_leftover(self) -> set[str]:
        """Return the ids of the containers that are not replicas, and have no owner now."""
        now = self._engine.info().system_time or datetime.now(UTC)
        rows = self._engine.rows({})
        states = self._states(TaskKey.of(row.labels) for row in rows)
        return {row.id for row, _, _ in self._leftovers(rows, states, now)}

    def _leftovers(
        self,
        rows: Iterable[ContainerRow],
        states: Mapping[TaskKey, str | None],
        now: datetime,
    ) -> Iterator[tuple[ContainerRow, str, TaskKey | None]]:
        for row in rows:
            task = TaskKey.of(row.labels)
            if why := leftover(row, task and states.get(task, UNKNOWN), self._policy, now):
                yield row, why, task

    def _remove_app(self, app: Found) -> bool:
        rows = lifecycle.rows_of_launch(self._engine, app.name, app.key)
        lifecycle.stop_launch(
            self._engine,
            app.name,
            app.key,
            grace_s=lifecycle.grace_of(rows),
            keep=app.action is Action.STOP,
        )
        return bool(rows)

    def _remove(self, container: Found) -> bool:
        try:
            return self._engine.discard(container.key)
        except EngineConflictError:
            if container.name.startswith("airflow-torchx-gpu-probe"):
                self._engine.remove(container.key)
                return True
            return False

    def _untag(self, image: Found) -> bool:
        try:
            self._engine.images.untag(image.name)
        except EngineConflictError:
            return False
        return True

    def _each(
        self, found: Sequence[Found], remove: Callable[[Found], bool], pruned: Pruned
    ) -> None:
        for one, result in zip(
            found, map_concurrently(partial(_tried, remove), found), strict=True
        ):
            if isinstance(result, EngineError):
                pruned.failed.append((one, result))
            else:
                (pruned.done if result else pruned.spared).append(one)


def _tried(remove: Callable[[Found], bool], one: Found) -> bool | EngineError:
    try:
        return remove(one)
    except AppNotFoundError:
        return False
    except EngineUnreachableError:
        raise
    except EngineError as error:
        return error


def _container(row: ContainerRow, why: str, task: TaskKey | None) -> Found:
    return Found(
        kind="container", name=row.name, why=why, since=row.created_at, task=task, key=row.id
    )
