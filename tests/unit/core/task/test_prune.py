"""Tests of what has no owner on a daemon."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import DISCARDED_PREFIX, ContainerRow
from airflow_torchx.core.engine.images import ImageRow
from airflow_torchx.core.task.prune import (
    BUILD_S,
    DETACHED,
    GONE,
    PROBE_S,
    UNSTARTED_S,
    Action,
    Found,
    LaunchedContainers,
    Phase,
    Policy,
    TaskKey,
    counted_text,
    leftover,
    surplus_images,
    verdict,
    volume_verdict,
)
from airflow_torchx.core.task.shutdown import UNKNOWN

NOW: Final = datetime(2026, 1, 2, tzinfo=UTC)
TASK: Final = TaskKey("nightly", "manual", "train", -1)
TASK_LABELS: Final = {
    labels.DAG_ID: "nightly",
    labels.RUN_ID: "manual",
    labels.TASK_ID: "train",
    labels.MAP_INDEX: "-1",
}
OVER: Final = ("success", "failed", "skipped", "upstream_failed", "removed")
OWNED: Final = (
    "running",
    "queued",
    "scheduled",
    "deferred",
    "up_for_retry",
    "up_for_reschedule",
    "restarting",
    "awaiting_input",
    "a state of a later release",
    None,
)
ON_FINISH: Final = ("delete", "keep", "keep_failed", DETACHED, "", "of a later release")
YOUNG_S, OLD_S = 30.0, 30 * 24 * 3600.0

apps = st.builds(
    LaunchedContainers,
    app_id=st.just("app"),
    launch_id=st.just("launch"),
    task=st.sampled_from([TASK, None]),
    on_finish=st.sampled_from(ON_FINISH),
    phase=st.sampled_from(Phase),
    has_succeeded=st.booleans(),
    since=st.just(NOW),
)
states = st.sampled_from([*OVER, *OWNED, GONE, UNKNOWN]) | st.text()
policies = st.builds(Policy, older_than_s=st.floats(0, 1e9), gone=st.booleans())
ages = st.floats(-10, 1e9)


def app(**values: Any) -> LaunchedContainers:  # noqa: ANN401 - any field
    """Return an app of a task that has ended, with other values."""
    ended = LaunchedContainers(
        app_id="app",
        launch_id="launch",
        task=TASK,
        on_finish="delete",
        phase=Phase.ENDED,
        has_succeeded=True,
        since=NOW,
    )
    return replace(ended, **values)


@given(apps, states, policies, ages)
def test_an_app_with_an_owner_is_left(
    one: LaunchedContainers, state: str | None, policy: Policy, age_s: float
) -> None:
    """Whatever else is known, an app is touched only if its task is over or it has none."""
    action, why = verdict(one, state, policy, age_s)

    assert why
    if one.task is not None and state not in {*OVER, GONE}:
        assert action is Action.LEAVE
    if one.task is not None and state == GONE and not policy.gone:
        assert action is Action.LEAVE
    if one.task is None and (one.phase is Phase.RUNS or age_s <= min(60, policy.older_than_s)):
        assert action is Action.LEAVE
    if one.phase is Phase.RUNS and one.on_finish not in {"delete", "keep_failed"}:
        assert action is Action.LEAVE


@given(st.sampled_from([TASK, None]), states, policies, ages | st.none())
def test_checkpoints_that_a_task_may_use_are_left(
    task: TaskKey | None, state: str | None, policy: Policy, unused_s: float | None
) -> None:
    """A volume is removed if the only task that uses it is over, and so is its run for long."""
    action, why = volume_verdict(task, state, policy, unused_s)

    assert why
    is_over = state in OVER or (state == GONE and policy.gone)
    is_old = unused_s is not None and unused_s > policy.older_than_s
    removes = task is not None and is_over and is_old
    assert (Action.REMOVE if removes else Action.LEAVE) is action


@given(apps, states, policies, ages, ages)
def test_an_older_app_is_not_safer(
    one: LaunchedContainers, state: str | None, policy: Policy, age_s: float, more_s: float
) -> None:
    """What is removed at some age is also removed later."""
    action = verdict(one, state, policy, age_s).action

    if action is not Action.LEAVE:
        assert action is verdict(one, state, policy, age_s + abs(more_s)).action


@pytest.mark.parametrize(("state", "phase", "on_finish"), list(product(OWNED, Phase, ON_FINISH)))
def test_a_task_that_is_not_over_owns_its_apps(
    state: str | None, phase: Phase, on_finish: str
) -> None:
    """A task that runs, waits, is deferred or will be tried again owns all its apps at any age."""
    one = app(phase=phase, on_finish=on_finish)

    assert Action.LEAVE is verdict(one, state, Policy(gone=True), OLD_S).action


@pytest.mark.parametrize("state", OVER)
@pytest.mark.parametrize(
    ("phase", "on_finish", "has_succeeded", "young", "old"),
    [
        (Phase.RUNS, "delete", False, Action.REMOVE, Action.REMOVE),
        (Phase.ENDED, "delete", False, Action.REMOVE, Action.REMOVE),
        (Phase.ENDED, "delete", True, Action.REMOVE, Action.REMOVE),
        (Phase.RUNS, "keep_failed", False, Action.STOP, Action.STOP),
        (Phase.ENDED, "keep_failed", True, Action.REMOVE, Action.REMOVE),
        (Phase.ENDED, "keep_failed", False, Action.LEAVE, Action.REMOVE),
        *(
            (phase, kept, succeeded, Action.LEAVE, late)
            for kept in ("keep", DETACHED, "", "of a later release")
            for phase, late in ((Phase.RUNS, Action.LEAVE), (Phase.ENDED, Action.REMOVE))
            for succeeded in (True, False)
        ),
        *((Phase.UNSTARTED, kept, False, Action.REMOVE, Action.REMOVE) for kept in ON_FINISH),
    ],
)
def test_an_app_whose_task_is_over(
    state: str, phase: Phase, on_finish: str, has_succeeded: bool, young: Action, old: Action
) -> None:
    """`on_finish` says what stays of an app, until it is older than the user wants."""
    one = app(phase=phase, on_finish=on_finish, has_succeeded=has_succeeded)

    assert young is verdict(one, state, Policy(), YOUNG_S).action
    assert old is verdict(one, state, Policy(), OLD_S).action


def test_a_run_that_this_airflow_does_not_have() -> None:
    """Such a run was deleted, or is of another Airflow, so a user has to say which."""
    assert Action.LEAVE is verdict(app(), GONE, Policy(), OLD_S).action
    assert Action.REMOVE is verdict(app(), GONE, Policy(gone=True), YOUNG_S).action
    assert Action.LEAVE is verdict(app(), UNKNOWN, Policy(gone=True), OLD_S).action


@pytest.mark.parametrize("on_finish", ON_FINISH)
def test_an_app_of_a_deleted_run(on_finish: str) -> None:
    """With `gone`, an ended app is removed at once; a running one only if its task ends it."""
    gone = Policy(gone=True)
    ended = app(on_finish=on_finish, has_succeeded=False)
    action, why = verdict(replace(ended, phase=Phase.RUNS), GONE, gone, OLD_S)

    assert (Action.REMOVE, "its run was deleted") == verdict(ended, GONE, gone, YOUNG_S)
    assert Action.LEAVE is verdict(ended, GONE, Policy(), OLD_S).action
    assert ("delete" in on_finish or "keep_failed" == on_finish) == (action is not Action.LEAVE)
    assert "its run was deleted" in why


@pytest.mark.parametrize(
    ("phase", "age_s", "expected"),
    [
        (Phase.UNSTARTED, UNSTARTED_S, Action.LEAVE),
        (Phase.UNSTARTED, UNSTARTED_S + 1, Action.REMOVE),
        (Phase.RUNS, OLD_S, Action.LEAVE),
        (Phase.ENDED, 3600.0, Action.LEAVE),
        (Phase.ENDED, 24 * 3600.0 + 1, Action.REMOVE),
    ],
)
def test_an_app_outside_airflow(phase: Phase, age_s: float, expected: Action) -> None:
    """A running app is left, an ended one for a day, and a launch may take a minute to start."""
    assert expected is verdict(app(task=None, phase=phase), None, Policy(), age_s).action


def test_an_app_outside_airflow_that_may_be_restarted() -> None:
    """An app that has just ended is left for a minute, as its owner may be about to restart it."""
    ended = app(task=None, phase=Phase.ENDED, has_succeeded=False, may_restart=True)
    done, now = replace(ended, has_succeeded=True), Policy(older_than_s=0.0)

    assert Action.LEAVE is verdict(ended, None, now, UNSTARTED_S).action
    assert Action.REMOVE is verdict(ended, None, now, UNSTARTED_S + 1).action
    assert Action.REMOVE is verdict(done, None, now, 1.0).action
    assert Action.REMOVE is verdict(replace(ended, may_restart=False), None, now, 1.0).action


def row(name: str = "app-r-0", state: str = "exited", **values: Any) -> ContainerRow:  # noqa: ANN401 - any field
    """Return a container that has just been created."""
    status = {"exited": "Exited (0) 1 hour ago"}.get(state, state)
    return replace(
        ContainerRow(
            id=f"id-{name}",
            name=name,
            image="busybox",
            state=state,
            status=status,
            labels={},
            created_at=NOW,
        ),
        **values,
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["created", "created"], Phase.UNSTARTED),
        (["created", "exited"], Phase.ENDED),
        (["created", "running"], Phase.RUNS),
        (["exited", "paused"], Phase.RUNS),
        (["exited", "restarting"], Phase.RUNS),
        (["exited", "removing"], Phase.ENDED),
        (["dead", "exited"], Phase.ENDED),
        (["pending", "created"], Phase.UNSTARTED),
        (["exited", "pending"], Phase.RUNS),
        (["preparing", "created"], Phase.RUNS),
    ],
)
def test_the_phase_of_a_launch(found: list[str], expected: Phase) -> None:
    """A launch runs while one container does, and has not started while none was."""
    rows = [row(f"app-r-{number}", state) for number, state in enumerate(found)]

    assert expected is LaunchedContainers.of(rows).phase


def test_a_launch_that_is_being_cancelled_has_started() -> None:
    """A container that was cancelled before its start belongs to an app that has ended."""
    assert Phase.ENDED is LaunchedContainers.of([row("app-r-0.cancelled", "created")]).phase


def test_a_launch_is_read_from_labels() -> None:
    """Labels that any client may have written are read with care."""
    known = {**TASK_LABELS, labels.APP_ID: "a", labels.LAUNCH_ID: "l", labels.ON_FINISH: "keep"}
    later = NOW + timedelta(seconds=5)

    one = LaunchedContainers.of([row(labels=known), row("b", labels=known, created_at=later)])

    assert ("a", "l", TASK, "keep", later) == (
        one.app_id,
        one.launch_id,
        one.task,
        one.on_finish,
        one.since,
    )
    assert LaunchedContainers.of([row(labels={**known, labels.MAP_INDEX: "x"})]).task is None
    assert LaunchedContainers.of([row()]).task is None


def minutes(count: float) -> datetime:
    """Return a time so long ago."""
    return NOW - timedelta(minutes=count)


CLAIM: Final = {labels.GPU_MARKER: "claim", labels.GPU_TIMEOUT: "60"}
DISCARDED: Final = row(f"{DISCARDED_PREFIX}id", "created", id="id")


@pytest.mark.parametrize(
    ("container", "state", "expected"),
    [
        (row("db", "exited", created_at=minutes(1e6)), None, None),
        (replace(DISCARDED, created_at=minutes(0.5)), None, None),
        (replace(DISCARDED, created_at=minutes(2)), None, "a client was killed"),
        (row("torchx-build-x", "created", created_at=NOW), None, None),
        (
            row("torchx-build-x", "created", created_at=minutes(BUILD_S / 60 + 1)),
            None,
            "its build broke off",
        ),
        (row("torchx-build-x", "running", created_at=minutes(1e6)), None, None),
        *(
            (
                row(
                    f"airflow-torchx-gpu-{kind}-x", "created", labels=given, created_at=minutes(age)
                ),
                state,
                expected,
            )
            for kind, given, age, state, expected in (
                ("claim", CLAIM, 1, None, None),
                ("claim", CLAIM, 3, None, "it has expired"),
                ("lock", {**CLAIM, labels.GPU_MARKER: "lock"}, 3, None, "it has expired"),
                ("ticket", {**CLAIM, labels.GPU_MARKER: "ticket"}, 1e6, None, None),
                (
                    "ticket",
                    {**CLAIM, **TASK_LABELS, labels.GPU_MARKER: "ticket"},
                    1,
                    "failed",
                    "over",
                ),
                (
                    "ticket",
                    {**CLAIM, **TASK_LABELS, labels.GPU_MARKER: "ticket"},
                    1,
                    "deferred",
                    None,
                ),
                ("ticket", {**CLAIM, **TASK_LABELS, labels.GPU_MARKER: "ticket"}, 1, GONE, None),
                ("probe", {labels.GPU_MARKER: "probe"}, 1, None, None),
                ("probe", {labels.GPU_MARKER: "probe"}, PROBE_S / 60 + 1, None, "killed"),
            )
        ),
        *(
            (
                row(
                    "airflow-torchx-placing",
                    "created",
                    labels={labels.SWARM_LOCK: "app-1"},
                    created_at=minutes(age),
                ),
                None,
                expected,
            )
            for age, expected in ((0.5, None), (2, "killed"))
        ),
    ],
)
def test_containers_that_are_not_replicas(
    container: ContainerRow, state: str | None, expected: str | None
) -> None:
    """Only containers of this package are found, once no client can need them."""
    why = leftover(container, state, Policy(), NOW)

    assert (expected is None) == (why is None)
    assert (expected or "") in (why or "")


def image(number: int, workspace: str = "w", key: str | None = None) -> ImageRow:
    """Return a workspace image; a higher number is newer."""
    key = f"{workspace}{number}" if key is None else key
    known = {labels.WORKSPACE_ID: workspace, labels.WORKSPACE_KEY: key}
    tags = (f"airflow-torchx/workspace:{workspace}{number}",)
    return ImageRow(id=f"sha256:{workspace}{number}", tags=tags, labels=known, created_s=number)


def test_old_images_that_no_container_uses() -> None:
    """Of each workspace, the newest images stay, and those of containers, and those of users."""
    images = [image(number) for number in range(5)] + [image(9, "v"), image(-1, key="a user's")]
    rows = [row(image=images[0].tags[0]), row(image=images[1].id)]

    assert [images[2]] == list(surplus_images(images, rows, keep=2))
    assert [] == list(surplus_images(images, rows, keep=5))


def test_hostile_labels_are_printed_as_one_line() -> None:
    """Escape sequences and line breaks of labels reach neither a terminal nor a log."""
    task = TaskKey("d\x1b[31m", "r\n", "t", 3)
    found = Found(kind="app", name="a\x1b[2J\n", why="w\r", since=NOW, task=task, key="k")

    cells = found.row(NOW + timedelta(hours=2))

    assert ("app a?[2J?", "remove: w?", "2 h", "", "d?[31m r? t[3]") == cells


def test_counts() -> None:
    """What was found is counted by its kind."""
    one = Found(kind="app", name="a", why="w", since=NOW)

    assert "nothing" == counted_text([])
    assert "2 apps and 1 image" == counted_text([one, one, replace(one, kind="image")])
    assert "1 app (20.0 kB)" == counted_text([replace(one, size_bytes=20_000)])
