"""What the end of an app adds to counters, and what the span of a phase says."""

from __future__ import annotations

import pytest

from airflow_torchx.core.task.metrics import Value, attributes, end_counts, rule_count
from airflow_torchx.specs import AppState, DescribeAppResponse, ReplicaStatus, RoleStatus

FAILED, SUCCEEDED = AppState.FAILED, AppState.SUCCEEDED


def ended(state: AppState, *replicas: ReplicaStatus, restarts: int = -1) -> DescribeAppResponse:
    """Return an app of one role."""
    return DescribeAppResponse(
        "a", state, num_restarts=restarts, roles_statuses=[RoleStatus("train", replicas)]
    )


@pytest.mark.parametrize("state", [AppState.SUCCEEDED, AppState.FAILED, AppState.CANCELLED])
def test_the_state_of_an_app_is_in_the_name_and_a_tag(state: AppState) -> None:
    """A StatsD without tags keeps the states apart, too."""
    (found,) = end_counts(ended(state))

    assert (f"torchx.app.finished.{state}", {"state": state.name}) == (found.name, found.tags)


@pytest.mark.parametrize("state", set(AppState) - {SUCCEEDED, FAILED, AppState.CANCELLED})
def test_an_app_that_has_not_ended_counts_nothing(state: AppState) -> None:
    """An app whose state is not final may still end in another one."""
    assert [] == [*end_counts(ended(state, restarts=2))]


def test_what_happened_to_replicas() -> None:
    """Restarts of the app and of containers, and replicas that lacked memory, are counted."""
    killed = ReplicaStatus(0, FAILED, "train", "h", oom_killed=True, exit_code=137, num_restarts=2)
    lived = ReplicaStatus(1, SUCCEEDED, "train", "h", oom_killed=True, num_restarts=1)

    assert {
        "torchx.app.finished.FAILED": 1,
        "torchx.app.restarts": 4,
        "torchx.replica.restarts": 3,
        "torchx.replica.out_of_memory": 1,
    } == {one.name: one.number for one in end_counts(ended(FAILED, killed, lived, restarts=4))}


def test_the_name_of_a_failure_rule() -> None:
    """The name of a rule is one part of the name of its metric; the tag has it as it is."""
    found = rule_count("disk.full-2")

    assert ("torchx.failure_rule.disk__full-2", {"rule": "disk.full-2"}) == (found.name, found.tags)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("busybox", {"container.image.name": "busybox"}),
        (
            "hub:5000/team/train:1.2",
            {"container.image.name": "hub:5000/team/train", "container.image.tags": ("1.2",)},
        ),
        (
            "hub:5000/train@sha256:ab",
            {
                "container.image.name": "hub:5000/train",
                "container.image.repo_digests": ("hub:5000/train@sha256:ab",),
            },
        ),
        ("sha256:ab", {"container.image.id": "sha256:ab"}),
        ("", {}),
    ],
)
def test_the_attributes_of_an_image(image: str, expected: dict[str, Value]) -> None:
    """An image has the attributes of OpenTelemetry's semantic conventions."""
    assert expected == attributes(image)


def test_the_attributes_of_a_phase() -> None:
    """Only what is known is an attribute."""
    assert {} == attributes()
    assert {"torchx.app.gpus": 2, "torchx.app.state": "FAILED"} == attributes(gpus=2, state=FAILED)
