"""Apps in whatever form; TorchX's own are in tests/integration/test_torchx_objects.py."""

from __future__ import annotations

import pytest

from airflow_torchx.errors import InvalidAppError
from airflow_torchx.specs import AppDef, Role, as_app, is_app, to_dict

APP = AppDef("a", [Role("r", "i")])


def test_ours_stays_as_it_is() -> None:
    """And a mapping is read."""
    assert as_app(APP) is APP
    assert APP == as_app(to_dict(APP))


def test_only_an_app_is_one() -> None:
    """Also without TorchX."""
    assert is_app(APP)
    assert not is_app(to_dict(APP))


@pytest.mark.parametrize("value", ["app", 3, None])
def test_anything_else(value: object) -> None:
    """Is told with its type."""
    with pytest.raises(InvalidAppError, match=f"app: expected a dict, got {value!r}"):
        as_app(value)
