"""Components by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from airflow_torchx import components
from airflow_torchx.errors import ComponentError, InvalidAppError
from airflow_torchx.specs import AppDef, parse_mounts

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = (
    "Known are: dist.ddp, dist.spmd, dist.torchrun, utils.binary, utils.booth, utils.copy, "
    "utils.echo, utils.python, utils.sh, utils.touch."
)
EXTRA = "For those that TorchX knows, install it: pip install 'airflow-torchx[torchx]'"


def greet(name: str) -> AppDef:
    """Return an app of that name."""
    return AppDef(name)


def test_public_names() -> None:
    """The package exports these names, and knows these components."""
    assert [
        *("COMPONENTS", "Component", "call", "dist", "get", "names", "parse", "usage", "utils")
    ] == components.__all__
    assert components.names() == [*components.COMPONENTS]
    for name, function in components.COMPONENTS.items():
        module, _, attribute = name.partition(".")
        assert function is getattr(getattr(components, module), attribute)


def test_get() -> None:
    """A component is found by its name."""
    assert components.dist.ddp is components.get("dist.ddp")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dist.dpp", f"Did you mean 'dist.ddp'? {KNOWN} {EXTRA}"),
        ("UTILS.ECHO", f"Did you mean 'utils.echo'? {KNOWN} {EXTRA}"),
        ("zzz", f"{KNOWN} {EXTRA}"),
    ],
)
def test_unknown_component(name: str, expected: str) -> None:
    """An unknown name is told with the nearest one, with all there are, and with where to look."""
    with pytest.raises(ComponentError) as caught:
        components.parse(name, [])

    assert f"there is no component {name!r}." == caught.value.what
    assert expected == caught.value.fix


def test_torchx_is_asked_for_its_own() -> None:
    """Without it, the error says how to get it, also for a name that we have."""
    with pytest.raises(ComponentError, match=r"'utils.echo' needs TorchX") as caught:
        components.parse("torchx:utils.echo", [])

    assert "Install it: pip install 'airflow-torchx[torchx]'" == caught.value.fix


def test_folder_with_its_name_is_not_torchx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one of DAGs."""
    tmp_path.joinpath("torchx").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ComponentError, match=r"there is no component 'my_team.trainer'") as caught:
        components.get("my_team.trainer")

    assert caught.value.fix.endswith(EXTRA)


def test_call_takes_any_function() -> None:
    """A function that is not registered can be called with a command line too."""
    assert AppDef("me") == components.call("greet", greet, ["--name", "me"])
    assert AppDef("me") == components.call("greet", greet, [], defaults={"name": "me"})


def test_component_must_return_an_app() -> None:
    """What returns something else is no component."""
    function = cast("Any", lambda: "app")

    with pytest.raises(ComponentError, match="'f' returned str instead of an AppDef"):
        components.call("f", function, [])


def test_wrong_arguments_show_the_usage() -> None:
    """Also those that the component itself refuses, after what it says to do."""
    with pytest.raises(ComponentError) as caught:
        components.parse("utils.python", ["-h", "cpu.nano"])

    advice, usage = caught.value.fix.split("\n", 1)
    assert "Give exactly one of m, c and script." == advice
    assert usage.startswith("usage: utils.python [-m M] [-c C] [--script SCRIPT]")


def test_component_that_fails() -> None:
    """Is told with what it raised and where, and with its usage; our own errors stay theirs."""

    def late(*, name: str = "x") -> AppDef:
        raise KeyError(name)

    def wrong() -> AppDef:
        parse_mounts(["type=x"])
        return AppDef("a")

    with pytest.raises(ComponentError, match=r"'f' failed: KeyError: 'x' \(.*py, line \d+\)") as e:
        components.call("f", late, [])
    with pytest.raises(InvalidAppError):
        components.call("f", wrong, [])

    assert "usage: f [--name NAME]" == e.value.fix
    assert isinstance(e.value.__cause__, KeyError)
