"""Pull policies."""

from __future__ import annotations

import pytest

from airflow_torchx.errors import ImagePullError
from airflow_torchx.runtime import images
from airflow_torchx.testing import FakeEngine


def test_a_missing_image_is_pulled_and_one_that_is_there_is_not() -> None:
    """Policy ``missing``, the default."""
    engine = FakeEngine(images=["here"], pullable=["there"])

    images.ensure(engine, ["here", "there", "there"], "missing")

    assert 1 == engine.calls.count("pull")
    assert engine.find_image("there")


def test_always_pulls_what_is_there() -> None:
    """Each image once, however many roles use it."""
    engine = FakeEngine(images=["here"], pullable=["here"])

    images.ensure(engine, ["here", "here"], "always")

    assert ["pull"] == engine.calls


def test_never_pulls_nothing() -> None:
    """Preflight has refused what is not there."""
    engine = FakeEngine(pullable=["there"])

    images.ensure(engine, ["there"], "never")

    assert [] == engine.calls


@pytest.mark.parametrize("image", ["sha256:abc", "airflow-torchx/workspace:0123"])
def test_what_no_registry_knows_is_not_pulled(image: str) -> None:
    """Neither an image id, nor a workspace image under the name that it has on its daemon."""
    engine = FakeEngine(images=[image], pullable=["airflow-torchx/workspaces"])

    images.ensure(engine, [image, "airflow-torchx/workspaces"], "always")

    assert ["pull"] == engine.calls


def test_a_pull_that_fails_is_an_error_and_no_fallback() -> None:
    """A stale local image is not taken silently."""
    engine = FakeEngine(images=["stale"])

    with pytest.raises(ImagePullError, match="stale"):
        images.ensure(engine, ["stale"], "always")


def test_if_possible_takes_what_is_here(caplog: pytest.LogCaptureFixture) -> None:
    """It pulls what it can; for what it cannot, a warning says why."""
    engine = FakeEngine(images=["stale", "fresh"], pullable=["fresh"])

    images.ensure(engine, ["stale", "fresh"], "if_possible")

    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert 2 == engine.calls.count("pull")
    assert 1 == len(warned)
    assert warned[0].startswith("using image stale as it is on the daemon: cannot pull image stale")


def test_if_possible_needs_an_image() -> None:
    """One that is neither to be had nor here is an error."""
    with pytest.raises(ImagePullError, match="nowhere"):
        images.ensure(FakeEngine(), ["nowhere"], "if_possible")
