"""Tests `as_app`; TorchX's own objects are in tests/integration/test_torchx_objects.py."""

from __future__ import annotations

import pytest

from airflow_torchx.errors import InvalidAppError
from airflow_torchx.specs import AppDef, Role, as_app, is_app, to_dict

APP = AppDef("a", [Role("r", "i")])


def test_as_app() -> None:
    """An AppDef is returned unchanged, and a mapping is converted."""
    assert as_app(APP) is APP
    assert APP == as_app(to_dict(APP))


def test_is_app() -> None:
    """An AppDef is an app, and its mapping is not."""
    assert is_app(APP)
    assert not is_app(to_dict(APP))


@pytest.mark.parametrize("value", ["app", 3, None])
def test_other_types_are_rejected(value: object) -> None:
    """A value of another type is shown in the error."""
    with pytest.raises(InvalidAppError, match=f"app: expected a dict, got {value!r}"):
        as_app(value)
