"""What the events of a task's assets say of its app."""

from __future__ import annotations

import json
from typing import Any

from airflow_torchx.core.task.outlet_extra import MAX_EXTRA_BYTES, outlet_extra

PUSHED: dict[str, Any] = {
    "app_handle": "local_docker://torchx/a",
    "app_id": "a",
    "image_ids": {"trainer": "sha256:1"},
    "progress": {"step": 9, "total": 9, "metrics": {"loss": 0.25}, "at": 1.0},
    "replicas": [{"id": 0}],
}


def never(text: str) -> str:
    """Mask nothing."""
    return text


def test_what_is_known() -> None:
    """It has the handle, the images, the last step and metrics, and the result."""
    assert {
        "app_handle": "local_docker://torchx/a",
        "image_ids": {"trainer": "sha256:1"},
        "step": 9,
        "metrics": {"loss": 0.25},
        "result": {"accuracy": 0.5},
    } == outlet_extra(PUSHED, {"accuracy": 0.5}, never)


def test_what_is_not_known() -> None:
    """An app without a result file and without progress has its handle; a result of 0 is one."""
    assert {"app_handle": "h"} == outlet_extra({"app_handle": "h"}, None, never)
    assert {"result": 0} == outlet_extra({}, 0, never)


def test_a_secret_in_a_result() -> None:
    """Texts of a result are masked wherever they are in it."""

    def mask(text: str) -> str:
        return text.replace("hunter2", "***")

    found = outlet_extra({}, {"hunter2": [1, {"url": "s3://u:hunter2@b"}], "n": None}, mask)

    assert {"***": [1, {"url": "s3://u:***@b"}], "n": None} == found["result"]


def test_a_large_result() -> None:
    """A result that is too large for an event is left out, and the rest is there."""
    found = outlet_extra(PUSHED, ["x" * MAX_EXTRA_BYTES], never)

    assert "result" not in found
    assert 9 == found["step"]
    assert len(json.dumps(found)) < MAX_EXTRA_BYTES
