"""Command-line arguments for a component: TorchX's rules, and no exit and no printing.

The options are the function's parameters and their types its annotations. Unlike TorchX, every
mistake is found in one pass, a bool must be True or False, and an option is given once.
"""

from __future__ import annotations

import argparse
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, NoReturn, TypeAlias, get_args, get_origin

from airflow_torchx.components.literals import (
    UnsupportedTypeError,
    describe,
    plain_type,
    read_literal,
)
from airflow_torchx.errors import ComponentError
from airflow_torchx.specs.suggest import nearest

Parameters: TypeAlias = Mapping[str, inspect.Parameter]

_VAR: Final = inspect.Parameter.VAR_POSITIONAL
_NO_DEFAULT: Final = inspect.Parameter.empty


class _RefusedError(Exception):
    """Argparse does not understand the arguments."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _RefusedError(message)


def bind(
    name: str,
    function: Callable[..., Any],
    args: Sequence[str],
    defaults: Mapping[str, str] | None = None,
) -> inspect.BoundArguments:
    """Return the arguments for ``function`` that a command line stands for.

    ``--x=y``, ``--x y`` and for one-letter parameters ``-x y`` set the parameter ``x``. What
    follows the last option goes to ``*args``; a ``--`` before it is dropped.

    Args:
        name: name of the component, for messages.
        function: the component.
        args: the command line, split into words.
        defaults: what counts, in the words of a command line, for parameters that ``args`` leaves
            out; those of other names are not looked at.

    Raises:
        ComponentError: the component does not take these arguments, or no command line can give
            the arguments that the function takes.
    """
    signature = signature_of(name, function)
    given, mistakes = _read(signature.parameters, args, defaults or {})
    if mistakes:
        what = "\n  - ".join([f"component {name!r} does not take these arguments:", *mistakes])
        raise ComponentError(what, fix=synopsis(name, signature.parameters))
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        if parameter.kind is _VAR:
            positional += given[parameter.name]
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            if parameter.name in given:
                keywords[parameter.name] = given[parameter.name]
        else:
            positional.append(given.get(parameter.name, parameter.default))
    return signature.bind(*positional, **keywords)


#: What comes of an annotation that is a text, and no type.
_UNREADABLE: Final = (
    *(NameError, AttributeError, SyntaxError, TypeError, ValueError, LookupError, ArithmeticError),
)


def signature_of(name: str, function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a component: a command line can give all that has no default.

    Raises:
        ComponentError: it cannot, or a parameter has no type.
    """
    try:
        signature = inspect.signature(function, eval_str=True)
    except _UNREADABLE as error:
        what = f"the annotations of component {name!r} cannot be read: {error}."
        fix = "Import what they name at the top of its module, outside of TYPE_CHECKING."
        raise ComponentError(what, fix=fix) from error
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            what = f"component {name!r} takes **{parameter.name}, which no command line can give."
            raise ComponentError(what, fix="Declare each parameter, or take one dict[str, str].")
        try:
            describe(annotation_of(parameter))
        except UnsupportedTypeError as error:
            typed = parameter.annotation is not inspect.Parameter.empty
            if typed and parameter.default is not _NO_DEFAULT:
                continue
            what = f"parameter {parameter.name!r} of component {name!r} has an unreadable type"
            fix = "Annotate it as str, int, float, bool, or a list or dict of these."
            raise ComponentError(f"{what}: {error}.", fix=fix) from error
    return signature


def annotation_of(parameter: inspect.Parameter) -> object:
    """Return the type of a parameter; ``*args`` without one are strings."""
    untyped_rest = parameter.kind is _VAR and parameter.annotation is inspect.Parameter.empty
    return str if untyped_rest else parameter.annotation


def options_of(parameter: inspect.Parameter) -> list[str]:
    """Return how the option may be written; the last way always works."""
    long = f"--{parameter.name}"
    if get_origin(parameter.annotation) is Annotated:
        extras = get_args(parameter.annotation)[1:]
        return [*(e for e in extras if isinstance(e, str) and e.startswith("-")), long]
    return [f"-{parameter.name}", long] if len(parameter.name) == 1 else [long]


def _read(
    parameters: Parameters, args: Sequence[str], defaults: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values by parameter, and what is wrong with the arguments."""
    not_strings = [f"{arg!r} is not a string" for arg in args if not isinstance(arg, str)]
    if isinstance(args, str) or not_strings:
        return {}, not_strings or ["they are one string, and not a list of strings"]
    try:
        written, unknown = _parser(parameters).parse_known_args(args)
    except _RefusedError as refusal:
        return {}, [str(refusal)]
    mistakes = [_unknown(word, parameters) for word in unknown]
    given: dict[str, Any] = {}
    for parameter in parameters.values():
        words = vars(written).get(parameter.name) or _default_words(parameter, defaults)
        if words is not None:
            mistakes += _convert(parameter, words, given)
        elif parameter.default is _NO_DEFAULT:
            wanted = describe(annotation_of(parameter))
            mistakes.append(f"--{parameter.name} is missing: expected {wanted}")
    return given, mistakes


def _default_words(parameter: inspect.Parameter, defaults: Mapping[str, str]) -> list[str] | None:
    """Return what counts for a parameter that is left out; None for its own default."""
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


def _convert(parameter: inspect.Parameter, words: list[str], given: dict[str, Any]) -> list[str]:
    """Put the value into ``given``, or return what is wrong with it."""
    annotation = annotation_of(parameter)
    try:
        if parameter.kind is _VAR:
            rest = words[1:] if words[:1] == ["--"] else words
            given[parameter.name] = [read_literal(word, annotation) for word in rest]
        elif len(words) > 1:
            return [f"--{parameter.name} is given {len(words)} times"]
        else:
            given[parameter.name] = read_literal(words[0], annotation)
    except UnsupportedTypeError:
        return [f"--{parameter.name} cannot be given here: no text stands for a {annotation}"]
    except ValueError:
        wanted = describe(annotation)
        if get_origin(plain_type(annotation)) is dict:
            # What should have been an environment may hold a secret.
            return [f"--{parameter.name}: expected {wanted}, got something else"]
        shown = words if parameter.kind is _VAR else words[0]
        return [f"--{parameter.name}: expected {wanted}, got {shown!r}"]
    return []


def _unknown(word: str, parameters: Parameters) -> str:
    if not word.startswith("-"):
        return f"nothing takes {word!r}"
    option = word.partition("=")[0]
    near = nearest(option, [f"--{name}" for name in parameters])
    rest = [name for name, parameter in parameters.items() if parameter.kind is _VAR]
    message = f"there is no option {option}"
    if near:
        message += f"; did you mean {near}?"
    if rest:
        message += f" (options among {rest[0]} come after a --)"
    return message


def synopsis(name: str, parameters: Parameters) -> str:
    """Return one sentence on how a component is called, in lines of 88 characters at most."""
    options, rest = [], []
    for parameter in parameters.values():
        word = f"{options_of(parameter)[0]} {parameter.name.upper()}"
        if parameter.kind is _VAR:
            rest.append(f"[-- {parameter.name} ...]")
        else:
            options.append(word if parameter.default is _NO_DEFAULT else f"[{word}]")
    # Lines break between the words and not inside of them.
    words = [word.replace(" ", "\xa0") for word in ["usage: " + name, *options, *rest]]
    text = textwrap.fill(" ".join(words), width=88, subsequent_indent="  ", break_on_hyphens=False)
    return text.replace("\xa0", " ")
