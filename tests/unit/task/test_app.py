"""The app of a task, and what is wrong with its arguments."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.errors import ComponentError, InvalidAppError
from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role
from airflow_torchx.task.app import checked_with, with_overrides
from airflow_torchx.testing import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def options() -> Callable[[], object]:
    """Return what parses run options of which one is unknown."""
    scheduler = DockerScheduler("torchx", FakeEngine())
    return partial(scheduler.options, {"stop_grace": 3})


def of_component(args: str) -> TorchXDockerOperator:
    """Return an operator whose component has its image from the operator."""
    return TorchXDockerOperator(
        task_id="train", component="dist.ddp", component_args=args, image="local/image"
    )


def test_an_image_of_the_operator_is_not_missing() -> None:
    """A component that gets its image from the operator shows only what is wrong."""
    with pytest.raises(ComponentError, match="did you mean --cpu") as caught:
        of_component("--script a.py --cpus 1").app_def()

    assert "--image" not in caught.value.what
    assert "local/image" == of_component("--script a.py").app_def().roles[0].image


def test_a_wrong_component_does_not_hide_a_wrong_option(options: Callable[[], object]) -> None:
    """One error has the problems of the component and of the run options."""
    with pytest.raises(ComponentError, match="did you mean --cpu") as caught:
        checked_with(of_component("--script a.py --cpus 1").app_def, options)

    assert "options.stop_grace: unknown option" in caught.value.what
    assert "usage: dist.ddp" in caught.value.fix


def test_a_wrong_app_does_not_hide_a_wrong_option(options: Callable[[], object]) -> None:
    """One error has the problems of the app and of the run options."""
    app = AppDef("app", [Role("main", "base")])

    with pytest.raises(InvalidAppError) as caught:
        checked_with(lambda: with_overrides(app, image=None, env={"A": None}), options)

    assert ["env", "options.stop_grace"] == [one.where for one in caught.value.problems]


def test_an_app_without_a_problem_is_returned(options: Callable[[], object]) -> None:
    """Its options are not parsed yet: they are checked together with the app's fields."""
    app = AppDef("app", [Role("main", "base")])

    assert app is checked_with(lambda: app, options)
