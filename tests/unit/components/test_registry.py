"""Components by name."""

from __future__ import annotations

from typing import Any, cast

import pytest

from airflow_torchx import components
from airflow_torchx.errors import ComponentError
from airflow_torchx.specs import AppDef


def greet(name: str) -> AppDef:
    """Return an app of that name."""
    return AppDef(name)


def test_public_names() -> None:
    """The package exports these names, and knows these components."""
    assert ["COMPONENTS", "Component", "call", "dist", "get", "parse"] == components.__all__
    assert {"dist.ddp": components.dist.ddp} == components.COMPONENTS


def test_get() -> None:
    """A component is found by its name."""
    assert components.dist.ddp is components.get("dist.ddp")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dist.dpp", "Did you mean 'dist.ddp'? Known are: dist.ddp."),
        ("DIST.DDP", "Did you mean 'dist.ddp'? Known are: dist.ddp."),
        ("zzz", "Known are: dist.ddp."),
    ],
)
def test_unknown_component(name: str, expected: str) -> None:
    """An unknown name is told with the nearest one and with all there are."""
    with pytest.raises(ComponentError) as caught:
        components.parse(name, [])

    assert f"there is no component {name!r}." == caught.value.what
    assert expected == caught.value.fix


def test_call_takes_any_function() -> None:
    """A function that is not registered can be called with a command line too."""
    assert AppDef("me") == components.call("greet", greet, ["--name", "me"])


def test_component_must_return_an_app() -> None:
    """What returns something else is no component."""
    function = cast("Any", lambda: "app")

    with pytest.raises(ComponentError, match="'f' returned str instead of an AppDef"):
        components.call("f", function, [])
