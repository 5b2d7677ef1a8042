"""Where an app keeps its checkpoints."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.checkpoints import Checkpoints, checkpoints
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.core.plan.job_plan import LaunchContext, plan
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.specs import BindMount, VolumeMount
from tests.unit.apps import app

ATTEMPT = TaskAttempt(
    dag_id="nightly", run_id="run", task_id="train", map_index=-1, max_tries=2, try_number=1
)


def kept(attempt: TaskAttempt | None = ATTEMPT, **cfg: Any) -> Checkpoints:  # noqa: ANN401 - options
    """Return the checkpoints of a task, or of an app outside a task."""
    found = checkpoints(
        Opts.parse({"checkpoint": "models", **cfg}),
        app_id="train-x1",
        app_name="train",
        own=attempt.labels if attempt else {},
    )
    assert found is not None
    return found


def folder(attempt: TaskAttempt | None = ATTEMPT, **cfg: Any) -> str:  # noqa: ANN401 - options
    """Return the folder of a task."""
    return kept(attempt, **cfg).folder


def test_without_the_option_nothing_is_kept() -> None:
    """An app without the option has no mount and no variable."""
    assert None is checkpoints(Opts(), app_id="a", app_name="a", own={})


def test_retries_of_a_run_share_a_folder() -> None:
    """A retry continues where the try before it saved."""
    assert folder() == folder(replace(ATTEMPT, try_number=2))


@pytest.mark.parametrize(
    "other",
    [{"run_id": "run2"}, {"max_tries": 3}],
)
def test_a_run_and_a_clear_start_afresh_unless_the_policy_is_eager(other: dict[str, Any]) -> None:
    """Another run, or a clear, which raises ``max_tries``, has a folder of its own by default."""
    changed = replace(ATTEMPT, **other)

    assert folder() != folder(changed)
    assert folder(checkpoint_policy="eager") == folder(changed, checkpoint_policy="eager")


@pytest.mark.parametrize(
    "other", [{"dag_id": "nightly2"}, {"task_id": "train2"}, {"map_index": 0}, {"map_index": 1}]
)
@pytest.mark.parametrize("policy", ["fresh", "eager"])
def test_each_task_has_a_folder_of_its_own(policy: str, other: dict[str, Any]) -> None:
    """Another DAG, task or map index has another folder with either policy."""
    changed = replace(ATTEMPT, **other)

    assert folder(checkpoint_policy=policy) != folder(changed, checkpoint_policy=policy)


def test_an_app_outside_a_task_is_known_by_its_id_or_name() -> None:
    """Outside a task, the scope is the app's id, or with ``eager`` its name."""
    fresh, eager = (folder(None, checkpoint_policy=policy) for policy in ("fresh", "eager"))

    assert re.fullmatch(r"/torchx/checkpoints/apps/train-\w{12}/runs/train-x1-\w{12}", fresh)
    assert re.fullmatch(r"/torchx/checkpoints/apps/train-\w{12}/all-runs", eager)


HOSTILE = [
    "../../etc",
    "..",
    ".",
    "/",
    "a/b",
    "a b",
    "a\nb",
    "a\0b",
    "manual__2026-01-01T00:00:00+00:00",
    "größe",
    "測試",
    "x" * 5000,
    "x" * 5001,
    "train-0",
    "train",
    "\udc80",
    "-rf",
]


def test_hostile_ids_stay_in_their_folder() -> None:
    """Folders have plain names of at most 64 characters, and two ids never share one."""
    folders = {}
    for run_id, task_id in itertools.product(HOSTILE, HOSTILE):
        attempt = replace(ATTEMPT, run_id=run_id, task_id=task_id)
        found = folder(attempt)
        folders[found] = attempt
        parts = found.removeprefix("/torchx/checkpoints/").split("/")
        assert 5 == len(parts)
        assert all(re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}", part) for part in parts), found

    assert len(HOSTILE) ** 2 == len(folders)


def test_a_mapped_task_is_not_a_task_of_that_name() -> None:
    """Index 0 of task ``train`` does not share a folder with a task ``train-0``."""
    mapped = replace(ATTEMPT, map_index=0)

    assert folder(mapped) != folder(replace(ATTEMPT, task_id="train-0"))


def test_a_volume_is_mounted_in_every_replica() -> None:
    """All replicas share the volume and the folder; Docker labels a volume that it creates."""
    launch = LaunchContext(
        app_id=ATTEMPT.app_id, handle="h", launch_id="l", environ={}, labels=ATTEMPT.labels
    )

    found = plan(app(2), Opts(checkpoint="models"), launch)

    for spec in found.containers:
        assert (VolumeMount(src="models", dst_path="/torchx/checkpoints"),) == spec.mounts
        assert {"models": {"airflow-torchx/checkpoint": "models"}} == spec.volume_labels
        assert "models" == spec.labels["airflow-torchx/checkpoint"]
        own = spec.env["TORCHX_CHECKPOINT_DIR"]
        assert "/torchx/checkpoints/" + spec.labels["airflow-torchx/checkpoint-folder"] == own
        assert own == found.folders[-1]
    assert "/torchx/checkpoints/tasks" == found.folders[0]
    assert 5 == len(found.folders)


def test_a_host_path_is_a_bind_mount() -> None:
    """A path is mounted from the daemon's host, and creates no volume."""
    found = kept(checkpoint="/data//models/")

    assert BindMount(src_path="/data/models", dst_path="/torchx/checkpoints") == found.mount
    assert {} == found.volume_labels


def test_a_secret_does_not_replace_the_folder() -> None:
    """The folder is the option's, whatever the launching process or a secret sets."""
    launch = LaunchContext(
        app_id="a",
        handle="h",
        launch_id="l",
        environ={"TORCHX_CHECKPOINT_DIR": "/copied"},
        private_env={"TORCHX_CHECKPOINT_DIR": "/private"},
    )

    (spec,) = plan(app(1), Opts(checkpoint="models", copy_env=["*"]), launch).containers

    assert spec.env["TORCHX_CHECKPOINT_DIR"].startswith("/torchx/checkpoints/apps/app-")


def test_a_url_has_a_volume_for_each_folder() -> None:
    """The volume of a URL belongs to one folder, has labels with its task, and is mounted alike."""
    url = "s3://conn@bucket/models"
    one, other = kept(checkpoint=url), kept(replace(ATTEMPT, run_id="run2"), checkpoint=url)

    assert kept().folder == one.folder
    assert one.volume != other.volume
    assert VolumeMount(src=str(one.volume), dst_path="/torchx/checkpoints") == one.mount
    assert one.volume is not None
    own = one.volume_labels[one.volume]
    names = ("checkpoint-folder", "dag-id", "task-id", "map-index", "run-id")
    task = [labels.DAG_ID, labels.TASK_ID, labels.MAP_INDEX, labels.RUN_ID]
    assert {"airflow-torchx/checkpoint", *(f"airflow-torchx/{name}" for name in names)} == set(own)
    assert [ATTEMPT.labels[name] for name in task] == [own[name] for name in task]
    eager = kept(checkpoint=url, checkpoint_policy="eager")
    assert labels.RUN_ID not in eager.volume_labels[str(eager.volume)]
    assert "300" == one.labels["airflow-torchx/checkpoint-interval-s"]
    assert "airflow-torchx/checkpoint-interval-s" not in kept().labels
