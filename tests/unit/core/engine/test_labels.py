"""Labels that a container has of its own."""

from __future__ import annotations

from airflow_torchx.core.engine import labels


def test_a_label_of_an_image_is_masked() -> None:
    """A reserved label that only the image has is not one of the container."""
    of_image = [labels.ROUND, labels.ROLE_NAME, labels.WORKSPACE_KEY, "user"]

    masked = labels.masked(of_image, {labels.ROLE_NAME: "trainer"})

    assert {labels.ROUND: labels.OF_IMAGE, labels.ROLE_NAME: "trainer"} == masked
    inherited = {labels.WORKSPACE_KEY: "key", "user": "1"}
    assert {labels.ROLE_NAME: "trainer", **inherited} == labels.without_masked(masked | inherited)


def test_a_role_with_the_name_of_the_mask() -> None:
    """A role, a DAG or a task may be named like the last part of the value of a masked label."""
    name = labels.OF_IMAGE.rpartition(":")[2]
    own = dict.fromkeys((labels.ROLE_NAME, labels.DAG_ID, labels.TASK_ID, labels.RUN_ID), name)

    assert own == labels.without_masked(labels.masked([], own))


def test_wanted_labels() -> None:
    """All wanted labels have to be there; None stands for any value."""
    found = {"a": "1", "b": "2"}

    assert labels.are_in({"a": "1", "b": None}, found)
    assert not labels.are_in({"a": "1", "b": "1"}, found)
    assert not labels.are_in({"c": None}, found)
