"""Tests how an app is found by handle, id or prefix."""

from __future__ import annotations

import pytest

from airflow_torchx.cli.finding import match
from airflow_torchx.errors import AppNotFoundError, ConditionError

APPS = ["trainer-x1", "trainer-x12", "server-y"]


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        ("trainer-x1", "trainer-x1"),
        ("trainer-x12", "trainer-x12"),
        ("ser", "server-y"),
        ("docker://torchx/server-y", "server-y"),
        ("local_docker://torchx/ser", "server-y"),
        ("docker:///s", "server-y"),
        ("local_docker:///server-y", "server-y"),
        ("local_docker://gpus/server-y", "server-y"),
    ],
)
def test_app_is_matched(app: str, expected: str) -> None:
    """A handle, an id or a unique prefix of one matches an app."""
    assert expected == match(app, APPS)


@pytest.mark.parametrize(
    ("app", "texts"),
    [
        ("trainer", ["2 apps: trainer-x1, trainer-x12", "more of the id"]),
        ("trainer-x2", ["no app 'trainer-x2'", "Did you mean trainer-x12?", "airflow-torchx list"]),
        ("docker://torchx/trainer", ["2 apps: trainer-x1, trainer-x12", "more of the id"]),
        (
            "docker://gpus/nope",
            ["no app 'nope'", "'gpus' is an Airflow connection", "DOCKER_HOST"],
        ),
    ],
)
def test_app_is_not_matched(app: str, texts: list[str]) -> None:
    """The error suggests other apps."""
    with pytest.raises(AppNotFoundError) as caught:
        match(app, APPS)

    assert [] == [text for text in texts if text not in str(caught.value)]


def test_handle_of_another_scheduler() -> None:
    """A handle of another scheduler is rejected."""
    with pytest.raises(ConditionError, match="local_cwd://x/y"):
        match("local_cwd://x/y", APPS)
