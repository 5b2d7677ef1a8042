"""Tests the registry of components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from airflow_torchx import components
from airflow_torchx.errors import ComponentError, InvalidAppError
from airflow_torchx.specs import AppDef, parse_mounts

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = (
    "Known components: dist.ddp, dist.spmd, dist.torchrun, utils.binary, utils.booth, utils.copy, "
    "utils.echo, utils.python, utils.sh, utils.touch."
)
EXTRA = "For TorchX's own components, install it: pip install torchx-nightly"


def greet(name: str) -> AppDef:
    """Return an app of that name."""
    return AppDef(name)


def test_public_names() -> None:
    """The package exports these names and registers these components."""
    assert [
        *("COMPONENTS", "Component", "call", "dist", "get", "names", "parse", "usage", "utils")
    ] == components.__all__
    assert components.names() == [*components.COMPONENTS]
    for name, function in components.COMPONENTS.items():
        module, _, attribute = name.partition(".")
        assert function is getattr(getattr(components, module), attribute)


def test_get() -> None:
    """A built-in component is found by its name."""
    assert components.dist.ddp is components.get("dist.ddp")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dist.dpp", f"Did you mean 'dist.ddp'? {KNOWN} {EXTRA}"),
        ("UTILS.ECHO", f"Did you mean 'utils.echo'? {KNOWN} {EXTRA}"),
        ("parts/t.py", f"Did you mean 'parts/t.py:function'? {KNOWN} {EXTRA}"),
        ("zzz", f"{KNOWN} {EXTRA}"),
    ],
)
def test_unknown_component(name: str, expected: str) -> None:
    """The error lists the closest name, all names, and how to install TorchX."""
    with pytest.raises(ComponentError) as caught:
        components.parse(name, [])

    assert f"unknown component {name!r}" == caught.value.what
    assert expected == caught.value.fix


def test_prefix_needs_torchx() -> None:
    """Without TorchX, the prefix torchx: is an error that says how to install it."""
    with pytest.raises(ComponentError, match=r"'utils.echo' needs TorchX") as caught:
        components.parse("torchx:utils.echo", [])

    assert "Install it: pip install torchx-nightly" == caught.value.fix


def test_folder_named_torchx_is_not_torchx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder named torchx, like one for DAGs, does not count as an installed TorchX."""
    tmp_path.joinpath("torchx").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ComponentError, match=r"unknown component 'my_team.trainer'") as caught:
        components.get("my_team.trainer")

    assert caught.value.fix.endswith(EXTRA)


def test_call_takes_any_function() -> None:
    """A function that is not registered can be called with command-line arguments."""
    assert AppDef("me") == components.call("greet", greet, ["--name", "me"])
    assert AppDef("me") == components.call("greet", greet, [], defaults={"name": "me"})


def test_component_must_return_an_app() -> None:
    """A component that returns anything but an AppDef is an error."""
    function = cast("Any", lambda: "app")

    with pytest.raises(ComponentError, match="'f' returned str instead of an AppDef"):
        components.call("f", function, [])


def test_wrong_arguments_show_the_usage() -> None:
    """When a component rejects its arguments, the usage follows its own advice."""
    with pytest.raises(ComponentError) as caught:
        components.parse("utils.python", ["-h", "cpu.nano", "--image", "i"])

    advice, usage = caught.value.fix.split("\n", 1)
    assert "Give exactly one of m, c and script." == advice
    assert usage.startswith("usage: utils.python [-m M] [-c C] [--script SCRIPT]")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "dist.ddp -j 2x1 --scrpt t.py --memMB lots",
            ["unknown option --scrpt; did you mean --script?", "--memMB: expected a whole number"],
        ),
        ("dist.ddp -j 2xx --script", ["argument --script: expected one", "expected j like 2x4"]),
        ("dist.ddp -j 2xx", ["expected a script or a module", "expected j like 2x4, 1:2x4 or 4"]),
        (
            "dist.ddp --cpu x -j 2x --script a -h gpu.smal --mounts type=bnd",
            ["--cpu: expected", "got '2x'", "Did you mean 'gpu.small'?", "unknown type 'bnd'"],
        ),
        ("dist.ddp --script a --script b -j x", ["--script is given 2 times", "got 'x'"]),
        ("dist.spmd -j 2xx -h nope", ["expected a script", "expected j", "named resource 'nope'"]),
        ("dist.spmd -h nope", ["expected a script", "unknown named resource 'nope'"]),
        ("utils.python -h nope", ["expected one program", "unknown named resource 'nope'"]),
        ("utils.sh --cpu x --mounts src=a", ["--cpu: expected", "option 'src=a' comes before any"]),
        ("utils.copy --src a --mounts type=x", ["--dst is missing: expected", "unknown type 'x'"]),
        (
            "dist.ddp --env A=1,A=2 -m x -j 2xx",
            ["--env: given twice, with different", "expected j"],
        ),
        ("utils.python -m --cpu x", ["argument -m/--m: expected one argument", "--cpu: expected"]),
        ("dist.ddp -j 0x1 --script a", ["--j: 0 replicas are not possible; choose from 1"]),
        ("dist.ddp -j 3:2x1 --script a", ["--j: 3 is not a minimum of 2 replicas; choose from 1"]),
        ("dist.ddp -j 0:1x2 --script a", ["--j: 0 is not a minimum of 1 replicas; choose from 1"]),
        ("dist.ddp -j 0x1 --script a --cpu two", ["--cpu: expected", "--j: 0 replicas"]),
        (
            "dist.ddp -j 0x1 --script a --memMB 3 --mounts foo",
            ["mounts: unknown option 'foo'", "--j: 0 replicas", "--memMB: 3 MB is below"],
        ),
        (
            "dist.ddp -j 2xx --max_retries -1 --rdzv_port 99999",
            ["expected a script", "expected j", "--max_retries: -1 is", "--rdzv_port: 99999 is"],
        ),
        ("dist.spmd --script a -j 0x1", ["--j: 0 replicas are not possible"]),
        ("utils.echo --num_replicas 0", ["--num_replicas: 0 replicas are not possible; choose"]),
        ("utils.sh --mounts type=bin,dst=x", ["mounts 'type=bin,dst=x': unknown type 'bin'"]),
        (
            "utils.copy --src a --dst b --mounts type=bind,src=/a,dst=/b,readonly=flase",
            ["invalid readonly=flase; write true or false"],
        ),
        ("utils.sh --mounts type=bind,src=/a,dst=b", ["--mounts: 'b' is not an absolute path"]),
    ],
)
def test_all_mistakes_are_reported(line: str, expected: list[str]) -> None:
    """One error has the mistakes in the options, and those that a built-in component finds."""
    name, *args = line.split()

    with pytest.raises(ComponentError) as caught:
        components.parse(name, ["--image", "i", *args])

    first, *mistakes = caught.value.what.splitlines()
    assert f"invalid arguments for component {name!r}:" == first
    assert len(expected) == len(mistakes)
    assert [] == [text for text, line in zip(expected, mistakes, strict=True) if text not in line]
    assert caught.value.fix.startswith(f"usage: {name} ")


@pytest.mark.parametrize(
    ("line", "others"),
    [
        *(("dist.ddp -j 2xx --script", 2), ("dist.ddp", 1), ("dist.spmd -j 2xx", 2)),
        *(("dist.ddp -j 2xx --script t.py", 1), ("dist.torchrun --script a -m b", 1)),
        *(("dist.ddp --script a --mounts type=x", 1), ("dist.ddp --script a --image= --cpu x", 1)),
        *(("utils.sh --cpu x --mounts src=a", 2), ("utils.sh -h nope ls", 1), ("utils.python", 1)),
        *(("utils.copy --src", 2), ("utils.touch", 1), ("utils.echo --num_replicas x", 1)),
    ],
)
def test_a_missing_image_is_a_mistake(line: str, others: int) -> None:
    """If a built-in component has other mistakes and no image, one error has all of them."""
    name, *args = line.split()

    with pytest.raises(ComponentError) as caught:
        components.parse(name, args)

    _, *mistakes = caught.value.what.splitlines()
    assert "  - --image is missing: expected an image" == mistakes[-1]
    assert others + 1 == len(mistakes)


@pytest.mark.parametrize(
    "line", ["dist.ddp --image", "utils.binary --num_replicas 2", "dist.ddp --img i -m x"]
)
def test_an_image_is_not_missing(line: str) -> None:
    """A value that --image lacks or that has another name, or a missing parameter, is one error."""
    name, *args = line.split()

    with pytest.raises(ComponentError, match=r"argument|entrypoint|unknown option") as caught:
        components.parse(name, args)

    assert "--image is missing" not in str(caught.value)


def test_own_component_is_not_called_with_mistakes() -> None:
    """A component of a user is called only with valid arguments."""

    def component(*, epochs: int = 1) -> AppDef:
        raise AssertionError(epochs)

    with pytest.raises(ComponentError, match="--epochs: expected a whole number"):
        components.call("c", component, ["--epochs", "x"])


def test_component_that_fails() -> None:
    """The error shows the exception, its line and the usage; our own errors pass through."""

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
