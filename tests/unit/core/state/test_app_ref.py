"""Tests of references to an app."""

from __future__ import annotations

import pytest

from airflow_torchx.core.state.app_ref import AppRef, app_ref
from airflow_torchx.errors import ConditionError


@pytest.mark.parametrize(
    ("app", "conn_id", "expected"),
    [
        ("train-x1", None, ("train-x1", None)),
        ("train-x1", "gpu", ("train-x1", "gpu")),
        ("local_docker://torchx/train-x1", None, ("train-x1", None)),
        ("local_docker:///train-x1", None, ("train-x1", None)),
        ("docker://torchx/train-x1", None, ("train-x1", None)),
        ("local_docker://gpu/train-x1", None, ("train-x1", "gpu")),
        ("local_docker://gpu/train-x1", "other", ("train-x1", "other")),
        ("local_docker://torchx/train-x1", "gpu", ("train-x1", "gpu")),
        ("docker_swarm://boxes/train-x1", None, ("train-x1", "boxes")),
    ],
)
def test_the_session_is_the_connection(
    app: str, conn_id: str | None, expected: tuple[str, str | None]
) -> None:
    """The session is the connection, unless it is TorchX's default or a connection is given."""
    assert expected == app_ref(app, conn_id)[:2]


@pytest.mark.parametrize("scheduler", ["local_docker", "docker_swarm"])
def test_a_handle_keeps_its_scheduler(scheduler: str) -> None:
    """The handle of an app is made again as it was."""
    handle = f"{scheduler}://gpu/train-x1"

    assert handle == app_ref(handle).handle


@pytest.mark.parametrize("app", ["kubernetes://torchx/train-x1", "local_docker://train-x1", "://"])
def test_handles_of_other_schedulers(app: str) -> None:
    """A handle of another scheduler is refused, with an example of a valid one."""
    with pytest.raises(ConditionError) as caught:
        app_ref(app)

    expected = (
        f"{app!r} is not a handle of an app on a Docker daemon or a Docker Swarm.\n"
        "A handle looks like 'local_docker://torchx/trainer-x1', or on a swarm like "
        "'docker_swarm://torchx/trainer-x1'."
    )
    assert expected == str(caught.value)


def test_an_empty_handle() -> None:
    """An empty handle is refused."""
    with pytest.raises(ConditionError, match="is empty"):
        app_ref("")


@pytest.mark.parametrize("conn_id", [None, "gpu"])
def test_handles_can_be_parsed_back(conn_id: str | None) -> None:
    """A handle refers to the app and the connection that it was made from."""
    ref = AppRef("train-x1", conn_id)

    assert ref == app_ref(ref.handle)
