"""Parses a component's command line by TorchX's rules, without exiting or printing.

Options are the function's parameters, typed by its annotations. Unlike TorchX, one pass finds every
mistake, a bool must be True or False, and an option may not be repeated.
"""

from __future__ import annotations

import argparse
import inspect
import textwrap
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, NoReturn, TypeAlias, get_args, get_origin

from airflow_torchx.components.literals import (
    UnsupportedTypeError,
    describe,
    plain_type,
    read_literal,
)
from airflow_torchx.errors import ComponentError, InvalidComponentError
from airflow_torchx.specs.suggest import nearest

Parameters: TypeAlias = Mapping[str, inspect.Parameter]

_VAR: Final = inspect.Parameter.VAR_POSITIONAL
_NO_DEFAULT: Final = inspect.Parameter.empty


class _ParserError(Exception):
    """Argparse cannot parse the arguments."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _ParserError(message)


def bind(
    name: str,
    function: Callable[..., Any],
    args: Sequence[str],
    defaults: Mapping[str, str] | None = None,
) -> inspect.BoundArguments:
    """Return the arguments of ``function`` that a command line describes.

    ``--x=y``, ``--x y`` and for one-letter parameters ``-x y`` set the parameter ``x``. Arguments
    after the last option go to ``*args``, without a leading ``--``. ``defaults`` holds command-line
    values of parameters that ``args`` omits; unknown names are ignored.

    Raises:
        ComponentError: the arguments are invalid, or a command line cannot set a required
            parameter of the function.
    """
    signature = signature_of(name, function)
    values, mistakes = _parse(signature.parameters, args, defaults or {})
    if mistakes:
        what = "\n  - ".join([f"invalid arguments for component {name!r}:", *mistakes])
        raise ComponentError(what, fix=synopsis(name, signature.parameters))
    for parameter in signature.parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            values.setdefault(parameter.name, parameter.default)
    return inspect.BoundArguments(signature, OrderedDict(values))


#: Errors that evaluating a string annotation may raise.
_ANNOTATION_ERRORS: Final = (
    *(NameError, AttributeError, SyntaxError, TypeError, ValueError, LookupError, ArithmeticError),
)


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
    parameters: Parameters, args: Sequence[str], defaults: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the value of each parameter, and the mistakes in the arguments."""
    not_strings = [f"{arg!r} is not a string" for arg in args if not isinstance(arg, str)]
    if isinstance(args, str) or not_strings:
        return {}, not_strings or ["expected a list of strings, got one string"]
    try:
        parsed, unknown = _parser(parameters).parse_known_args(args)
    except _ParserError as error:
        return {}, [str(error)]
    mistakes = [_unknown(arg, parameters) for arg in unknown]
    values: dict[str, Any] = {}
    for parameter in parameters.values():
        texts = vars(parsed).get(parameter.name) or _default(parameter, defaults)
        if texts is not None:
            mistakes += _convert(parameter, texts, values)
        elif parameter.default is _NO_DEFAULT:
            expected = describe(annotation_of(parameter))
            mistakes.append(f"--{parameter.name} is missing: expected {expected}")
    return values, mistakes


def _default(parameter: inspect.Parameter, defaults: Mapping[str, str]) -> list[str] | None:
    """Return the configured default of a parameter; None if it has none."""
    if parameter.kind is _VAR:
        return defaults.get(parameter.name, "").split()
    return [defaults[parameter.name]] if parameter.name in defaults else None


def _parser(parameters: Parameters) -> _Parser:
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    for parameter in parameters.values():
        if parameter.kind is _VAR:
            parser.add_argument(parameter.name, nargs=argparse.REMAINDER)
        else:
            parser.add_argument(*options_of(parameter), dest=parameter.name, action="append")
    return parser


def _convert(parameter: inspect.Parameter, texts: list[str], values: dict[str, Any]) -> list[str]:
    """Add the parameter's value to ``values``, or return the mistakes in it."""
    annotation = annotation_of(parameter)
    try:
        if parameter.kind is _VAR:
            rest = texts[1:] if texts[:1] == ["--"] else texts
            values[parameter.name] = [read_literal(text, annotation) for text in rest]
        elif len(texts) > 1:
            return [f"--{parameter.name} is given {len(texts)} times"]
        else:
            values[parameter.name] = read_literal(texts[0], annotation)
    except UnsupportedTypeError:
        return [f"--{parameter.name} cannot be set on a command line: its type is {annotation}"]
    except ValueError:
        expected = describe(annotation)
        if get_origin(plain_type(annotation)) is dict:
            # A malformed environment may hold a secret, so it is not shown.
            return [f"--{parameter.name}: expected {expected}, got something else"]
        shown = texts if parameter.kind is _VAR else texts[0]
        return [f"--{parameter.name}: expected {expected}, got {shown!r}"]
    return []


def _unknown(arg: str, parameters: Parameters) -> str:
    if not arg.startswith("-"):
        return f"unexpected argument {arg!r}"
    option = arg.partition("=")[0]
    near = nearest(option, [f"--{name}" for name in parameters])
    rest = [name for name, parameter in parameters.items() if parameter.kind is _VAR]
    hint = f"; did you mean {near}?" if near else ""
    advice = f" (put options of {rest[0]} after --)" if rest else ""
    return f"unknown option {option}{hint}{advice}"


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
