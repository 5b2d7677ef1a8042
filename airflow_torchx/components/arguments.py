"""Parses a component's command line by TorchX's rules, without exiting or printing.

Options are the function's parameters, typed by its annotations. Unlike TorchX, one pass finds every
mistake, a bool must be True or False, an option has one value, and what comes after the
options may be anything.
"""

from __future__ import annotations

import inspect
import textwrap
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias, get_args, get_origin

from airflow_torchx.components.literals import (
    UnsupportedTypeError,
    describe,
    plain_type,
    read_literal,
)
from airflow_torchx.components.option_parser import Options
from airflow_torchx.core.plan.option_text import RepeatedKeyError
from airflow_torchx.errors import ComponentError, InvalidComponentError

Parameters: TypeAlias = Mapping[str, inspect.Parameter]

_VAR: Final = inspect.Parameter.VAR_POSITIONAL
_NO_DEFAULT: Final = inspect.Parameter.empty


@dataclass(frozen=True)
class CommandLine:
    """The parsed command line of a component.

    Args:
        bound: the arguments of its function, without those that are missing or wrong.
        mistakes: what is wrong, one line for each mistake.
        incomplete: parameters whose option has no value, or several.
    """

    bound: inspect.BoundArguments
    mistakes: tuple[str, ...] = ()
    incomplete: frozenset[str] = frozenset()


def parse_line(
    name: str,
    function: Callable[..., Any],
    args: Sequence[str],
    defaults: Mapping[str, str] | None = None,
    outer: Collection[str] = (),
) -> CommandLine:
    """Return the arguments of ``function`` that a command line describes, and all mistakes in it.

    ``--x=y``, ``--x y`` and for one-letter parameters ``-x y`` set the parameter ``x``. Arguments
    after the last option go to ``*args``, without a leading ``--``.

    Args:
        name: name of the component, for messages.
        function: the component.
        args: the command line.
        defaults: command-line values of parameters that ``args`` omits; unknown names are ignored.
        outer: options that come before the component, for messages.

    Raises:
        InvalidComponentError: a command line cannot set a required parameter of the function.
    """
    signature = signature_of(name, function)
    values, mistakes, incomplete = _parse(signature.parameters, args, defaults or {}, outer)
    for parameter in signature.parameters.values():
        is_optional = parameter.default is not _NO_DEFAULT
        if is_optional and parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            values.setdefault(parameter.name, parameter.default)
    bound = inspect.BoundArguments(signature, OrderedDict(values))
    return CommandLine(bound, tuple(mistakes), frozenset(incomplete))


#: Errors that evaluating a string annotation may raise.
_ANNOTATION_ERRORS: Final = (
    *(NameError, AttributeError, SyntaxError, TypeError, ValueError, LookupError, ArithmeticError),
)


def arguments_error(name: str, lines: Sequence[str], usage: str) -> ComponentError:
    """Return the error for arguments of the component ``name``, with one line for each problem."""
    lines = [f"invalid arguments for component {name!r}:", *dict.fromkeys(lines)]
    return ComponentError("\n  - ".join(lines), fix=usage)


def signature_of(name: str, function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a component whose required parameters a command line can set.

    Raises:
        InvalidComponentError: a required parameter has no type, or one that text cannot express.
    """
    try:
        signature = inspect.signature(function, eval_str=True)
    except _ANNOTATION_ERRORS as error:
        what = f"cannot evaluate the annotations of component {name!r}: {error}"
        fix = "Import the annotated types at the top of its module, outside TYPE_CHECKING."
        raise InvalidComponentError(what, fix=fix) from error
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            what = f"component {name!r} takes **{parameter.name}, which a command line cannot set"
            fix = "Declare each parameter, or take one dict[str, str]."
            raise InvalidComponentError(what, fix=fix)
        try:
            describe(annotation_of(parameter))
        except UnsupportedTypeError as error:
            typed = parameter.annotation is not inspect.Parameter.empty
            if typed and parameter.default is not _NO_DEFAULT:
                continue
            what = f"parameter {parameter.name!r} of component {name!r} has an unsupported type"
            fix = "Annotate it as str, int, float, bool, or a list or dict of these."
            raise InvalidComponentError(f"{what}: {error}", fix=fix) from error
    return signature


def annotation_of(parameter: inspect.Parameter) -> object:
    """Return the type of a parameter; untyped ``*args`` are strings."""
    is_untyped_rest = parameter.kind is _VAR and parameter.annotation is inspect.Parameter.empty
    return str if is_untyped_rest else parameter.annotation


def options_of(parameter: inspect.Parameter) -> list[str]:
    """Return the spellings of a parameter's option; ``--name`` comes last."""
    long = f"--{parameter.name}"
    if get_origin(parameter.annotation) is Annotated:
        extras = get_args(parameter.annotation)[1:]
        return [*(e for e in extras if isinstance(e, str) and e.startswith("-")), long]
    return [f"-{parameter.name}", long] if len(parameter.name) == 1 else [long]


def _parse(
    parameters: Parameters,
    args: Sequence[str],
    defaults: Mapping[str, str],
    outer: Collection[str],
) -> tuple[dict[str, Any], list[str], set[str]]:
    """Return the value of each parameter, the mistakes, and the parameters without one value."""
    not_strings = [f"{arg!r} is not a string" for arg in args if not isinstance(arg, str)]
    if isinstance(args, str) or not_strings:
        return {}, not_strings or ["expected a list of strings, got one string"], set()
    texts = _options(parameters, outer).split(args)
    values: dict[str, Any] = {}
    mistakes, incomplete = texts.mistakes, texts.incomplete
    for name, parameter in parameters.items():
        given = texts.given.get(name) or _default(parameter, defaults)
        if given is not None and parameter.kind is not _VAR and not _is_same(parameter, given):
            mistakes.append(f"--{name} is given {len(given)} times, with different values")
            incomplete.add(name)
        elif given is not None:
            mistakes += _convert(parameter, given, values)
        elif parameter.default is _NO_DEFAULT and name not in incomplete:
            expected = describe(annotation_of(parameter))
            mistakes.append(f"--{name} is missing: expected {expected}")
    return values, mistakes, incomplete


def _options(parameters: Parameters, outer: Collection[str]) -> Options:
    rest = [name for name, parameter in parameters.items() if parameter.kind is _VAR]
    spellings = {
        name: options_of(parameter) for name, parameter in parameters.items() if name not in rest
    }
    return Options(spellings, rest[0] if rest else None, outer)


def _default(parameter: inspect.Parameter, defaults: Mapping[str, str]) -> list[str] | None:
    """Return the configured default of a parameter; None if it has none."""
    if parameter.kind is _VAR:
        return defaults.get(parameter.name, "").split()
    return [defaults[parameter.name]] if parameter.name in defaults else None


def _is_same(parameter: inspect.Parameter, texts: list[str]) -> bool:
    """Return whether all texts mean the same value."""
    if len(set(texts)) == 1:
        return True
    each: list[dict[str, Any]] = [{} for _ in texts]
    are_wrong = any(_convert(parameter, [text], one) for text, one in zip(texts, each, strict=True))
    return not are_wrong and all(one == each[0] for one in each)


def _convert(parameter: inspect.Parameter, texts: list[str], values: dict[str, Any]) -> list[str]:
    """Add the parameter's value to ``values``, or return the mistakes in it."""
    annotation = annotation_of(parameter)
    try:
        if parameter.kind is _VAR:
            rest = texts[1:] if texts[:1] == ["--"] else texts
            values[parameter.name] = [read_literal(text, annotation) for text in rest]
        else:
            values[parameter.name] = read_literal(texts[0], annotation)
    except UnsupportedTypeError:
        return [f"--{parameter.name} cannot be set on a command line: its type is {annotation}"]
    except RepeatedKeyError as error:
        return [f"--{parameter.name}: {error}"]
    except ValueError:
        expected = describe(annotation)
        if get_origin(plain_type(annotation)) is dict:
            # A malformed environment may hold a secret, so it is not shown.
            return [f"--{parameter.name}: expected {expected}, got something else"]
        shown = texts if parameter.kind is _VAR else texts[0]
        return [f"--{parameter.name}: expected {expected}, got {shown!r}"]
    return []


def synopsis(name: str, parameters: Parameters) -> str:
    """Return the usage of a component, in lines of at most 88 characters."""
    options, rest = [], []
    for parameter in parameters.values():
        option = f"{options_of(parameter)[0]} {parameter.name.upper()}"
        if parameter.kind is _VAR:
            rest.append(f"[-- {parameter.name} ...]")
        else:
            options.append(option if parameter.default is _NO_DEFAULT else f"[{option}]")
    # No-break spaces keep an option and its value on one line.
    parts = [part.replace(" ", "\xa0") for part in ["usage: " + name, *options, *rest]]
    text = textwrap.fill(" ".join(parts), width=88, subsequent_indent="  ", break_on_hyphens=False)
    return text.replace("\xa0", " ")
