"""Tests of the values that a task stores for its later processes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_torchx.core.logs.cursor import Cursor
from airflow_torchx.core.task.record import SUCCEEDED, Deferral, LaunchedApp, TaskRecord

APP = LaunchedApp(
    app_id="app-1",
    handle="local_docker://t/app-1",
    launch_id="l",
    config_hash="v1-a",
    stop_grace_s=3,
)
RECORD = TaskRecord(
    app_id="app-1",
    handle="local_docker://t/app-1",
    max_tries=2,
    config_hash="v1-a",
    phase=SUCCEEDED,
    result={"loss": 0.1},
)
DEFERRAL = Deferral(APP, {"trainer/0": Cursor(5, 1, 7), "trainer/1": Cursor(6, 0, rules="a b")})


def stored(value: TaskRecord | Deferral) -> Any:  # noqa: ANN401 - any JSON
    """Return the value after a round trip through a database."""
    return json.loads(json.dumps(value.to_json()))


def without(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a mapping without one of its fields."""
    return {key: value for key, value in mapping.items() if key != name}


def test_records_and_deferrals_survive_a_database() -> None:
    """A stored record or deferral is read back unchanged."""
    assert RECORD == TaskRecord.parse(stored(RECORD))
    assert DEFERRAL == Deferral.parse(stored(DEFERRAL))
    assert Deferral() == Deferral.parse(stored(Deferral()))


@pytest.mark.parametrize(
    ("checkpoint_s", "deadline_s", "timeout_s", "at_s"),
    [
        (120.0, 1000.0, 600.0, 880.0),
        (0.0, 1000.0, 600.0, None),
        (120.0, None, 0.0, None),
        (600.0, 1000.0, 600.0, None),
        (700.0, 1000.0, 600.0, None),
    ],
)
def test_the_time_at_which_an_app_is_asked_to_save(
    checkpoint_s: float, deadline_s: float | None, timeout_s: float, at_s: float | None
) -> None:
    """Replicas are asked before the deadline, unless a save takes all of the task's time."""
    saves = replace(APP, checkpoint_s=checkpoint_s)

    assert at_s == saves.save_at_s(deadline_s, timeout_s)


def test_unknown_fields_are_ignored() -> None:
    """Fields that a newer release has stored are ignored at every level."""
    deferral = stored(DEFERRAL)
    newer = {
        "app": {**deferral["app"], "region": "eu"},
        "cursors": {name: {**one, "file": 2} for name, one in deferral["cursors"].items()},
        "attempt": 3,
    }

    assert RECORD == TaskRecord.parse({**stored(RECORD), "region": "eu"})
    assert DEFERRAL == Deferral.parse(newer)


def test_missing_fields_have_their_default() -> None:
    """Fields that an older release has not stored get their defaults."""
    deferral = stored(DEFERRAL)
    deferral["cursors"]["trainer/0"].pop("newest_ns")
    record = TaskRecord.parse(without(stored(RECORD), "result"))

    assert record == RECORD.at(SUCCEEDED)
    assert Cursor(5, 1) == Deferral.parse(deferral).cursors["trainer/0"]
    assert Deferral(app=APP) == Deferral.parse(without(stored(DEFERRAL), "cursors"))


@pytest.mark.parametrize("name", ["app_id", "handle", "max_tries", "config_hash"])
def test_a_record_without_a_needed_field_is_not_used(name: str) -> None:
    """A record without a required field is ignored."""
    assert TaskRecord.parse(without(stored(RECORD), name)) is None


@pytest.mark.parametrize("name", ["app_id", "handle", "launch_id", "config_hash", "stop_grace_s"])
def test_a_deferral_without_a_needed_field_has_no_app(name: str) -> None:
    """A deferral whose app lacks a required field has no app, and keeps its cursors."""
    deferral = stored(DEFERRAL)
    deferral["app"] = without(deferral["app"], name)

    assert Deferral(None, DEFERRAL.cursors) == Deferral.parse(deferral)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("app_id", 1),
        ("handle", None),
        ("max_tries", True),
        ("max_tries", 2.0),
        ("config_hash", None),
        ("config_hash", ["v1-a"]),
        ("phase", None),
    ],
)
def test_a_record_with_a_field_of_another_type_is_not_used(name: str, value: object) -> None:
    """A record with a field of a wrong type is ignored."""
    assert TaskRecord.parse({**stored(RECORD), name: value}) is None


@pytest.mark.parametrize(("name", "value"), [("app_id", 7), ("stop_grace_s", "3")])
def test_an_app_with_a_field_of_another_type_is_not_used(name: str, value: object) -> None:
    """A deferral whose app has a field of a wrong type has no app."""
    deferral = stored(DEFERRAL)
    deferral["app"][name] = value

    assert Deferral(None, DEFERRAL.cursors) == Deferral.parse(deferral)


@pytest.mark.parametrize(
    ("name", "value"),
    [("time_ns", "5"), ("time_ns", None), ("seen", 0.5), ("newest_ns", "7"), ("rules", 3)],
)
def test_a_cursor_with_a_field_of_another_type_is_not_used(name: str, value: object) -> None:
    """A cursor with a field of a wrong type is ignored; the others are kept."""
    deferral = stored(DEFERRAL)
    deferral["cursors"]["trainer/0"][name] = value

    assert {"trainer/1": Cursor(6, 0, rules="a b")} == Deferral.parse(deferral).cursors


@pytest.mark.parametrize("value", [None, "app-1", 1, [1, 2], {}, {"pod": "x"}])
def test_other_values_are_not_used(value: object) -> None:
    """Values of other types are ignored."""
    assert TaskRecord.parse(value) is None
    assert Deferral() == Deferral.parse({"app": value, "cursors": value})
    assert Deferral() == Deferral.parse({"cursors": {"trainer/0": value}})
