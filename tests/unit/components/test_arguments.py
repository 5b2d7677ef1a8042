"""Tests command-line arguments of components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import pytest

from airflow_torchx.components.arguments import arguments_error, parse_line, synopsis
from airflow_torchx.errors import ComponentError

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Mapping, Sequence


def bind(
    name: str,
    function: Callable[..., Any],
    args: Sequence[str],
    defaults: Mapping[str, str] | None = None,
) -> inspect.BoundArguments:
    """Return the arguments of a component, or raise its error."""
    line = parse_line(name, function, args, defaults)
    if line.mistakes:
        usage = synopsis(name, line.bound.signature.parameters)
        raise arguments_error(name, line.mistakes, usage)
    return line.bound


def train(  # noqa: PLR0913 - one parameter of each kind
    model: str,
    *script_args: str,
    lr: float,
    epochs: int = 3,
    j: str = "1x2",
    h: str | None = None,
    fast: bool = False,
    tags: list[str] | None = None,
    env: dict[str, str] | None = None,
    out: Annotated[str, "where to", "-o"] = "",
) -> None:
    """Serve as a component."""


def bound(*args: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of ``train`` for a command line with its required options."""
    arguments = bind("train", train, ["--model", "m", "--lr", "1", *args])
    assert "m" == arguments.args[0]
    assert 1.0 == arguments.kwargs.pop("lr", 1.0)
    return arguments.args[1:], {k: v for k, v in arguments.kwargs.items() if k != "lr"}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], {}),
        (["--epochs", "5"], {"epochs": 5}),
        (["--epochs=5"], {"epochs": 5}),
        (["--epochs", "-5"], {"epochs": -5}),
        (["--epo", "5"], {"epochs": 5}),
        (["-j", "2x1"], {"j": "2x1"}),
        (["-j2x1"], {"j": "2x1"}),
        (["-j=2x1"], {"j": "2x1"}),
        (["--j", "2x1"], {"j": "2x1"}),
        (["--j=2x1"], {"j": "2x1"}),
        (["-j", "2x1", "--j=2x1"], {"j": "2x1"}),
        (["--epochs", "4", "--epo=+4"], {"epochs": 4}),
        (["--fast", "True", "--fast", "true"], {"fast": True}),
        (["--env", "A=1,B=2", "--env", "B=2;A=1"], {"env": {"A": "1", "B": "2"}}),
        (["-h", "big"], {"h": "big"}),
        (["--h=big"], {"h": "big"}),
        (["--fast", "True"], {"fast": True}),
        (["--fast=false"], {"fast": False}),
        (["--tags", "a,b"], {"tags": ["a", "b"]}),
        (["--env", "A=1,2,B=x=y"], None),
        (["--env", "A=1,2,B='x=y'"], {"env": {"A": "1,2", "B": "x=y"}}),
        (["--env", ""], {"env": None}),
        (["-o", "x"], {"out": "x"}),
        (["--out", "x"], {"out": "x"}),
    ],
)
def test_options(args: list[str], expected: dict[str, Any] | None) -> None:
    """Each spelling of an option sets its parameter, and omitted ones keep their default."""
    if expected is None:
        with pytest.raises(ComponentError, match="--env: expected a dict like A=1,B=2, got"):
            bound(*args)
    else:
        assert ((), expected) == bound(*args)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["a", "b"], ("a", "b")),
        (["--", "--lr", "2"], ("--lr", "2")),
        (["a", "--lr", "2", "--", "x"], ("a", "--lr", "2", "--", "x")),
        (["--", "--", "a"], ("--", "a")),
        (["--"], ()),
        ([""], ("",)),
        (["a", "--e"], ("a", "--e")),
        (["--zzz=a b"], ("--zzz=a b",)),
    ],
)
def test_rest(args: list[str], expected: tuple[str, ...]) -> None:
    """Arguments after the last option go to the rest, without a leading --."""
    assert (expected, {}) == bound(*args)


def test_positional_defaults_are_filled() -> None:
    """A parameter before the rest keeps its default when only the rest is given."""

    def component(a: str = "x", *rest: int, b: int = 1) -> None: ...

    arguments = bind("c", component, ["1", "2"])

    assert (("x", 1, 2), {}) == (arguments.args, arguments.kwargs)


def test_rest_may_be_untyped() -> None:
    """Arguments of an untyped rest are strings."""

    def component(*rest) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN002 - the point

    assert ("a",) == bind("c", component, ["a"]).args


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--modle", "m"], ["unknown option --modle; did you mean --model?"]),
        (["--hlep"], ["unknown option --hlep; did you mean --help?"]),
        (["--help=1"], ["unknown option --help; it takes no value, and only the command"]),
        (["--image", "i"], ["unknown option --image; set image= in a DAG, or use another"]),
        (["--EPOCHS=5"], ["unknown option --EPOCHS; did you mean --epochs?"]),
        (["--zzz"], ["unknown option --zzz (put options of script_args after --)"]),
        (["--zzz", "-y"], ["unknown option --zzz", "unknown option -y"]),
        (["--help"], ["unknown option --help"]),
        (["--epochs"], ["argument --epochs: expected one argument"]),
        (["-j"], ["argument -j/--j: expected one argument"]),
        (["--epochs", "x"], ["--epochs: expected a whole number, got 'x'"]),
        (["--fast", "yes"], ["--fast: expected True or False, got 'yes'"]),
        (["--env", "A"], ["--env: expected a dict like A=1,B=2, got something else"]),
        (["--epochs", "4", "--epochs=5"], ["--epochs is given 2 times, with different values"]),
        (["--epochs", "x", "--epochs", "x"], ["--epochs: expected a whole number, got 'x'"]),
        (["-j", "1", "--j", "2"], ["--j is given 2 times, with different values"]),
        (
            ["--epochs", "x", "--fast", "y", "--zz=1"],
            ["unknown option --zz", "--epochs: expected", "--fast: expected"],
        ),
        (
            ["--epohcs", "x", "--fast", "y", "main.py", "--zz"],
            ["did you mean --epochs?", "--epochs: expected", "--fast: expected"],
        ),
        (["--modle", "x", "--fast", "y"], ["did you mean --model?", "--fast: expected"]),
        (["--epochs", "--fast", "y", "-j"], ["argument --epochs: ", "argument -j/--j: ", "--fast"]),
        (["--e", "4", "--fast", "y"], ["ambiguous option: --e could match --epochs, --env", "--f"]),
        (["-jx", "--zz", "1", "--epochs", "-5", "--fast=y"], ["--zz", "--fast: expected True or"]),
        (["--zz", "--", "--fast", "y"], ["unknown option --zz"]),
    ],
)
def test_mistakes(args: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every mistake is reported with its option, and nothing is printed."""
    with pytest.raises(ComponentError) as caught:
        bind("train", train, ["--model", "m", "--lr", "1", *args])

    first, *mistakes = caught.value.what.splitlines()
    assert "invalid arguments for component 'train':" == first
    assert len(expected) == len(mistakes)
    assert all(text in line for text, line in zip(expected, mistakes, strict=True))
    assert ("", "") == capsys.readouterr()


def test_what_has_no_value_is_not_missing() -> None:
    """A required option without a value, or with a misspelt name, is reported once."""
    with pytest.raises(ComponentError) as caught:
        bind("train", train, ["--modle", "m", "--lr"])

    assert (
        "invalid arguments for component 'train':\n"
        "  - unknown option --modle; did you mean --model? (put options of script_args after --)\n"
        "  - argument --lr: expected one argument"
    ) == caught.value.what


def test_usage_is_shown() -> None:
    """An error shows the usage, which lists all options and marks optional ones."""
    with pytest.raises(ComponentError) as caught:
        bind("train", train, [])

    assert (
        "invalid arguments for component 'train':\n"
        "  - --model is missing: expected a string\n"
        "  - --lr is missing: expected a number"
    ) == caught.value.what
    assert (
        "usage: train --model MODEL --lr LR [--epochs EPOCHS] [-j J] [-h H] [--fast FAST]\n"
        "  [--tags TAGS] [--env ENV] [-o OUT] [-- script_args ...]"
    ) == caught.value.fix


def test_ambiguous_abbreviation() -> None:
    """An abbreviation of two options is rejected."""

    def component(*, rate: int = 0, rank: int = 0) -> None: ...

    with pytest.raises(ComponentError, match="ambiguous option: --ra could match --rate, --rank"):
        bind("c", component, ["--ra", "1"])


def test_unexpected_argument() -> None:
    """Without a rest, an argument that belongs to no option is rejected."""

    def component(a: str = "") -> None: ...

    with pytest.raises(ComponentError, match="unexpected argument 'x'"):
        bind("c", component, ["--a", "1", "x"])


def test_unknown_option_without_rest() -> None:
    """Without a rest, the error of an unknown option does not mention --."""

    def component(a: str = "") -> None: ...

    with pytest.raises(ComponentError) as caught:
        bind("c", component, ["--zzz"])

    assert caught.value.what.endswith("unknown option --zzz")


def test_numbers_are_converted_in_the_rest() -> None:
    """Arguments of the rest are converted to its type, or rejected."""

    def component(*rest: int) -> None: ...

    with pytest.raises(ComponentError, match=r"--rest: expected a whole number, got \['1', 'x'\]"):
        bind("c", component, ["1", "x"])


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("--lr 1", "expected a list of strings, got one string"),
        (["--lr", 1], "1 is not a string"),
    ],
)
def test_arguments_are_strings(args: Any, expected: str) -> None:  # noqa: ANN401 - wrong on purpose
    """A command line that is not a list of strings is rejected."""
    with pytest.raises(ComponentError, match=expected):
        bind("train", train, args)


def test_keyword_dicts_are_rejected() -> None:
    """A function that takes **kwargs is not a component."""

    def component(**options: str) -> None: ...

    with pytest.raises(ComponentError, match=r"'c' takes \*\*options, which a command line ca"):
        bind("c", component, [])


def _required(*, data: bytes) -> None: ...
def _untyped(*, data="") -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001 - the point


@pytest.mark.parametrize("component", [_required, _untyped])
def test_unsupported_types_are_rejected(component: Any) -> None:  # noqa: ANN401 - any function
    """A parameter without a type, or a required one of an unsupported type, is rejected."""
    with pytest.raises(ComponentError, match="'data' of component 'c' has an unsupported typ") as e:
        bind("c", component, [])

    assert "Annotate it as str, int, float, bool" in e.value.fix


def test_unsupported_type_with_a_default() -> None:
    """An optional parameter of an unsupported type keeps its default and cannot be set."""

    def component(*, data: bytes = b"x") -> None: ...

    assert {} == bind("c", component, []).kwargs
    with pytest.raises(ComponentError, match="--data cannot be set on a command line: its type is"):
        bind("c", component, ["--data", "x"])


def test_defaults_replace_omitted_arguments() -> None:
    """Defaults are parsed like arguments, mistakes included; unknown names are ignored."""
    defaults = {"model": "d", "lr": "2", "script_args": "a  b", "fast": "true", "zzz": "1"}

    arguments = bind("train", train, ["--lr", "1"], defaults)
    rest = bind("train", train, ["--lr", "1", "--", "c"], defaults)

    assert ("d", "a", "b") == arguments.args
    assert {"lr": 1.0, "fast": True} == arguments.kwargs
    assert ("d", "c") == rest.args
    with pytest.raises(ComponentError, match="--epochs: expected a whole number, got 'x'"):
        bind("train", train, [], defaults | {"epochs": "x"})


def test_annotations_must_be_importable() -> None:
    """An annotation that cannot be evaluated is an error that says where to import it."""

    def component(*, data: str = "") -> None: ...

    component.__annotations__["data"] = "Missing"

    with pytest.raises(ComponentError, match="name 'Missing' is not defined") as caught:
        bind("c", cast("Any", component), [])

    assert "outside TYPE_CHECKING" in caught.value.fix
