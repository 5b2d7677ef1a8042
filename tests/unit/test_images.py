"""Pull policies."""

from __future__ import annotations

import pytest

from airflow_torchx import images
from airflow_torchx.errors import ImagePullError
from airflow_torchx.testing import FakeEngine


def test_a_missing_image_is_pulled_and_one_that_is_there_is_not() -> None:
    """Policy ``missing``, the default."""
    engine = FakeEngine(images=["here"], pullable=["there"])

    images.ensure(engine, ["here", "there", "there"], "missing")

    assert 1 == engine.calls.count("pull")
    assert frozenset() == images.absent(engine, ["here", "there"])


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


def test_an_image_id_is_not_pulled() -> None:
    """No registry knows it."""
    engine = FakeEngine(images=["sha256:abc"])

    images.ensure(engine, ["sha256:abc"], "always")

    assert [] == engine.calls


def test_a_pull_that_fails_is_an_error_and_no_fallback() -> None:
    """A stale local image is not taken silently."""
    engine = FakeEngine(images=["stale"])

    with pytest.raises(ImagePullError, match="stale"):
        images.ensure(engine, ["stale"], "always")
