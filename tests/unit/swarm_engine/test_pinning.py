"""Why a node has no image, as its registry answers a manager."""

from __future__ import annotations

import pytest

from airflow_torchx.errors import ImagePullError
from airflow_torchx.swarm_engine.pinning import FailedPulls

MISSING = "No such image: registry:5000/team/train:1@sha256:00"


@pytest.mark.parametrize(
    ("error", "answer", "expected"),
    [
        ("task: non-zero exit (3)", None, "task: non-zero exit (3)"),
        (MISSING, ImagePullError("connection refused."), f"{MISSING}; connection refused."),
        (MISSING, None, f"{MISSING}; the registry has it, so see the log of the daemon"),
    ],
    ids=["another", "away", "there"],
)
def test_an_error_is_explained(error: str, answer: Exception | None, expected: str) -> None:
    """Each image is asked for once, as an app may have many replicas that fail."""
    asked = []

    def publish(image: str) -> str:
        asked.append(image)
        if answer is not None:
            raise answer
        return image

    pulls = FailedPulls(publish)

    assert all(pulls.explained(error).startswith(expected) for _ in range(3))
    assert asked == [MISSING.removeprefix("No such image: ")] * (error == MISSING)
