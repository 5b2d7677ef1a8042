"""Tests app handles."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_torchx.specs import MalformedAppHandleException, make_app_handle, parse_app_handle


@pytest.mark.parametrize(
    ("handle", "expected"),
    [
        ("local_docker://session/app-x", ("local_docker", "session", "app-x")),
        ("docker://session/app-x", ("docker", "session", "app-x")),
        ("local_docker:///app-x", ("local_docker", "", "app-x")),
        ("docker://a/b/app-x", ("docker", "a/b", "app-x")),
    ],
)
def test_parts(handle: str, expected: tuple[str, str, str]) -> None:
    """A handle has three parts, and the session may be empty or contain slashes."""
    assert expected == parse_app_handle(handle)
    assert handle == make_app_handle(*expected)


@pytest.mark.parametrize(
    "handle", ["", "app-x", "docker://app-x", "://s/a", "docker://s/", "s/a", None, 3]
)
def test_other_forms(handle: Any) -> None:  # noqa: ANN401 - any value
    """Another value is rejected with the expected form."""
    with pytest.raises(MalformedAppHandleException, match="expected scheduler://session/app_id"):
        parse_app_handle(handle)


NAMES = st.text("abcXYZ019-_.", min_size=1)


@settings(max_examples=40)
@given(NAMES, st.text("abc-_/", max_size=8), NAMES)
def test_round_trip(scheduler: str, session: str, app_id: str) -> None:
    """Every handle is parsed into the parts it was made from."""
    assert (scheduler, session, app_id) == parse_app_handle(
        make_app_handle(scheduler, session, app_id)
    )
