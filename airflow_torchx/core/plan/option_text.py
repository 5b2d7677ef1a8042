"""Parses run options from a command line or a ``.torchxconfig``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.plan.options import KINDS, MAPPINGS, snake_case
from airflow_torchx.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Quoted text. A quote after a backslash ends it only if no other quote does.
_QUOTED: Final = re.compile(r"'(?:\\.|[^'\\])*\\?'|\"(?:\\.|[^\"\\])*\\?\"", re.DOTALL)
#: TorchX's text for no value.
_NONE: Final = "None"


class RepeatedKeyError(ValueError):
    """Keys are repeated with different values, of which ``pairs`` has the last."""

    def __init__(self, keys: Sequence[str], pairs: Mapping[str, str]) -> None:
        super().__init__(f"given twice, with different values: {', '.join(keys)}")
        self.keys, self.pairs = tuple(keys), pairs


def read_options(texts: Mapping[str, str] | str) -> tuple[dict[str, object], list[Problem]]:
    """Return run options for `Opts.parse` from texts in TorchX's form.

    A mapping has the form ``KEY:VALUE;KEY2:VALUE2``, with commas or semicolons; ``None`` means no
    value. All other texts, and unknown names, are left to `Opts.parse`.

    Returns:
        The options, and a problem for every repeated option, and for a text or mapping of another
        form, without its value, which may be a secret.
    """
    options: dict[str, object] = {}
    problems: list[Problem] = []
    if isinstance(texts, str):
        texts, problems = _pairs(texts)
    for name, text in texts.items():
        option = snake_case(name)
        if text == _NONE:
            options[name] = None
        elif option not in MAPPINGS:
            options[name] = text
        else:
            try:
                options[name] = _mapping(option, text)
            except RepeatedKeyError as error:
                problems += [_repeated(f"options.{option}.{key}", option) for key in error.keys]
            except ValueError as error:
                fix = f"write {option}={KINDS[option].form}"
                problems.append(Problem(f"options.{option}", str(error), fix))
    return options, problems


def _pairs(text: str) -> tuple[Mapping[str, str], list[Problem]]:
    try:
        return split_dict(text, _meaning), []
    except RepeatedKeyError as error:
        repeated = [_repeated(f"options.{name}", snake_case(name)) for name in error.keys]
        return error.pairs, repeated
    except ValueError:
        fix = "write KEY=VALUE,KEY2=VALUE2, and quote a value that contains ="
        return {}, [Problem("options", "not a list of KEY=VALUE pairs", fix)]


def _meaning(name: str, text: str) -> object:
    """Return the value of an option, or its text if that is invalid."""
    option = snake_case(name)
    try:
        return _mapping(option, text) if option in MAPPINGS else KINDS[option].parse(text)
    except (KeyError, ValueError):
        return text


def _text(_: str, text: str) -> object:
    return text


def _mapping(option: str, text: str) -> dict[str, Any]:
    parts = [part.strip() for part in text.replace(";", ",").split(",") if part.strip()]
    split = [part.partition(":") for part in parts]
    if not all(key and colon for key, colon, _ in split):
        what = "not a list of pairs"
        raise ValueError(what)
    pairs = _unrepeated([(key.strip(), value.strip()) for key, _, value in split])
    if option == "log_config":
        return {"type": pairs.pop("type", None), "config": pairs}
    return pairs


def _unrepeated(
    pairs: Sequence[tuple[str, str]], meaning: Callable[[str, str], object] = _text
) -> dict[str, str]:
    """Return pairs as a dict; TorchX silently takes the last of several values of a key."""
    found = dict(pairs)
    repeated = dict.fromkeys(
        key
        for key, value in pairs
        if found[key] != value and meaning(key, found[key]) != meaning(key, value)
    )
    if repeated:
        raise RepeatedKeyError([*repeated], found)
    return found


def _repeated(where: str, option: str) -> Problem:
    form = f", like {option}={KINDS[option].form}" if option in KINDS else ""
    return Problem(where, "given twice, with different values", f"give it once{form}")


def split_dict(text: str, meaning: Callable[[str, str], object] = _text) -> dict[str, str]:
    """Return the pairs of ``A=1,B=2``.

    Pairs are separated by a comma or semicolon. A value may contain both: the last one before the
    next ``key=`` separates, so ``A=1,2;3,B=4`` is ``{"A": "1,2;3", "B": "4"}``. Separators inside
    quotes do not count, and quotes around a whole value are dropped.

    Args:
        text: the pairs.
        meaning: returns what is equal for values of a key that mean the same.

    Raises:
        RepeatedKeyError: a key has two values.
        ValueError: a key has no value, or a value has no key.
    """
    if not text:
        return {}
    # The mask keeps the length, so its positions are valid in the text.
    masked = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), text)
    parts = [
        (text[part.start() : part.end()].strip(), part[0].strip())
        for part in re.finditer("[^=]+", masked)
        if not part[0].isspace()
    ]
    what = f"not key=value pairs: {text}"
    if len(parts) == 1 or not parts:
        raise ValueError(what)
    pairs = []
    key = parts[0][0]
    for part, mask in parts[1:-1]:
        cut = max(mask.rfind(","), mask.rfind(";"))
        if not 0 < cut < len(part) - 1:
            raise ValueError(what)
        pairs.append((key, _unquote(part[:cut].strip())))
        key = part[cut + 1 :].strip()
    pairs.append((key, _unquote(parts[-1][0])))
    return _unrepeated(pairs, meaning)


def _unquote(value: str) -> str:
    return value[1:-1] if value[0] == value[-1] and value[0] in "'\"" else value
