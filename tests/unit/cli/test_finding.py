"""Which app is meant."""

from __future__ import annotations

import pytest

from airflow_torchx.cli.finding import choose
from airflow_torchx.errors import AppNotFoundError, ConditionError

APPS = ["trainer-x1", "trainer-x12", "server-y"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("trainer-x1", "trainer-x1"),
        ("trainer-x12", "trainer-x12"),
        ("ser", "server-y"),
        ("docker://torchx/server-y", "server-y"),
        ("local_docker:///server-y", "server-y"),
        ("local_docker://gpus/server-y", "server-y"),
    ],
)
def test_the_app_that_is_meant(word: str, expected: str) -> None:
    """A handle, an id, or the beginning of one id only."""
    assert expected == choose(word, APPS)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("trainer", ["2 apps: trainer-x1, trainer-x12", "more of its id"]),
        ("trainer-x2", ["no app 'trainer-x2'", "Did you mean trainer-x12?", "airflow-torchx list"]),
        ("docker://torchx/ser", ["no app 'ser'", "airflow-torchx list"]),
        (
            "docker://gpus/nope",
            ["no app 'nope'", "'gpus' is an Airflow connection", "DOCKER_HOST"],
        ),
    ],
)
def test_an_app_that_is_not_there(word: str, told: list[str]) -> None:
    """The error has what may be meant; a handle is never cut short."""
    with pytest.raises(AppNotFoundError) as caught:
        choose(word, APPS)

    assert [] == [text for text in told if text not in str(caught.value)]


def test_the_handle_of_another_scheduler() -> None:
    """It cannot be here."""
    with pytest.raises(ConditionError, match="local_cwd://x/y"):
        choose("local_cwd://x/y", APPS)
