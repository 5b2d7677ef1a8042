"""Which app is meant, and on which daemon."""

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
    ],
)
def test_session_is_connection(
    app: str, conn_id: str | None, expected: tuple[str, str | None]
) -> None:
    """Unless it is TorchX's own, or a connection is given."""
    assert expected == app_ref(app, conn_id)


@pytest.mark.parametrize("app", ["kubernetes://torchx/train-x1", "local_docker://train-x1", "://"])
def test_what_is_no_handle_of_ours(app: str) -> None:
    """It is refused, and the message shows one that is."""
    with pytest.raises(ConditionError) as caught:
        app_ref(app)

    expected = (
        f"{app!r} is no handle of an app on a Docker daemon.\n"
        "It looks like 'local_docker://torchx/trainer-x1'."
    )
    assert expected == str(caught.value)


def test_no_app() -> None:
    """What another task should have told may be empty."""
    with pytest.raises(ConditionError, match="is empty"):
        app_ref("")


@pytest.mark.parametrize("conn_id", [None, "gpu"])
def test_handle(conn_id: str | None) -> None:
    """It leads back to where it was made."""
    ref = AppRef("train-x1", conn_id)

    assert ref == app_ref(ref.handle)
