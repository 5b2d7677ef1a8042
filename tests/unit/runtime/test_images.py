"""Pull policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx.errors import ImagePullError
from airflow_torchx.runtime import images
from airflow_torchx.testing import FakeEngine, FakeSwarm

if TYPE_CHECKING:
    from airflow_torchx.core.plan.option_kinds import PullPolicy


def test_a_missing_image_is_pulled_and_one_that_is_there_is_not() -> None:
    """Policy ``missing``, the default, pulls only images that are not on the daemon."""
    engine = FakeEngine(images=["here"], pullable=["there"])

    images.ensure(engine, ["here", "there", "there"], "missing")

    assert 1 == engine.calls.count("pull")
    assert engine.find_image("there")


def test_always_pulls_what_is_there() -> None:
    """Policy ``always`` pulls each image once, even if several roles use it."""
    engine = FakeEngine(images=["here"], pullable=["here"])

    images.ensure(engine, ["here", "here"], "always")

    assert ["pull"] == engine.calls


def test_never_pulls_nothing() -> None:
    """Policy ``never`` pulls nothing."""
    engine = FakeEngine(pullable=["there"])

    images.ensure(engine, ["there"], "never")

    assert [] == engine.calls


@pytest.mark.parametrize("image", ["sha256:abc", "airflow-torchx/workspace:0123"])
def test_local_images_are_not_pulled(image: str) -> None:
    """Image ids and local workspace images are never pulled."""
    engine = FakeEngine(images=[image], pullable=["airflow-torchx/workspaces"])

    images.ensure(engine, [image, "airflow-torchx/workspaces"], "always")

    assert ["pull"] == engine.calls


def test_a_pull_that_fails_is_an_error_and_no_fallback() -> None:
    """A failed pull is an error even if an older image is on the daemon."""
    engine = FakeEngine(images=["stale"])

    with pytest.raises(ImagePullError, match="stale"):
        images.ensure(engine, ["stale"], "always")


def test_if_possible_takes_what_is_here(caplog: pytest.LogCaptureFixture) -> None:
    """Policy ``if_possible`` warns and uses the daemon's image if a pull fails."""
    engine = FakeEngine(images=["stale", "fresh"], pullable=["fresh"])

    images.ensure(engine, ["stale", "fresh"], "if_possible")

    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert 2 == engine.calls.count("pull")
    assert 1 == len(warned)
    assert warned[0].startswith("using image stale as it is on the daemon: cannot pull image stale")


def test_if_possible_needs_an_image() -> None:
    """Policy ``if_possible`` fails for an image that is neither pullable nor on the daemon."""
    with pytest.raises(ImagePullError, match="nowhere"):
        images.ensure(FakeEngine(), ["nowhere"], "if_possible")


@pytest.mark.parametrize(
    ("policy", "is_there", "pulls"),
    [
        ("missing", False, 1),
        ("missing", True, 0),
        ("always", True, 1),
        ("if_possible", True, 1),
        ("never", False, 0),
    ],
)
def test_a_base_is_pulled_to_where_it_is_built_on(
    policy: PullPolicy, is_there: bool, pulls: int
) -> None:
    """A manager that builds pulls the base itself, as the policy says."""
    engine = FakeSwarm(images=["base"] * is_there, pullable=["base"])

    images.ensure_base(engine.images, "base", policy, is_there=is_there)

    assert pulls == engine.calls.count("pull")
    assert (policy != "never") == (engine.images.inspect("base") is not None)


def test_a_base_that_cannot_be_pulled() -> None:
    """Policy ``if_possible`` takes the base of the manager, and fails without one."""
    images.ensure_base(FakeSwarm(images=["base"]).images, "base", "if_possible", is_there=True)

    with pytest.raises(ImagePullError, match="base"):
        images.ensure_base(FakeSwarm().images, "base", "if_possible", is_there=False)
