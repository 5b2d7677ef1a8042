"""Parses run options from a command line or a ``.torchxconfig``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.plan.options import KINDS, MAPPINGS, snake_case
from airflow_torchx.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

# Quoted text. A quote after a backslash ends it only if no other quote does.
_QUOTED: Final = re.compile(r"'(?:\\.|[^'\\])*\\?'|\"(?:\\.|[^\"\\])*\\?\"", re.DOTALL)
#: TorchX's text for no value.
_NONE: Final = "None"


def read_options(texts: Mapping[str, str]) -> tuple[dict[str, object], list[Problem]]:
    """Return run options for `Opts.parse` from texts in TorchX's form.

    A mapping has the form ``KEY:VALUE;KEY2:VALUE2``, with commas or semicolons; ``None`` means no
    value. All other texts, and unknown names, are left to `Opts.parse`.

    Returns:
        The options, and a problem for every mapping of another form, without its value, which may
        be a secret.
    """
    options: dict[str, object] = {}
    problems = []
    for name, text in texts.items():
        option = snake_case(name)
        if text == _NONE:
            options[name] = None
        elif option not in MAPPINGS:
            options[name] = text
        elif (pairs := _pairs(text)) is None:
            fix = f"write {option}={KINDS[option].form}"
            problems.append(Problem(f"options.{option}", "not a list of pairs", fix))
        elif option == "log_config":
            options[name] = {"type": pairs.pop("type", None), "config": pairs}
        else:
            options[name] = pairs
    return options, problems


def _pairs(text: str) -> dict[str, str] | None:
    parts = [part.strip() for part in text.replace(";", ",").split(",") if part.strip()]
    pairs = [part.partition(":") for part in parts]
    if not all(key and colon for key, colon, _ in pairs):
        return None
    return {key.strip(): value.strip() for key, _, value in pairs}


def split_dict(text: str) -> dict[str, str]:
    """Return the pairs of ``A=1,B=2``.

    Pairs are separated by a comma or semicolon. A value may contain both: the last one before the
    next ``key=`` separates, so ``A=1,2;3,B=4`` is ``{"A": "1,2;3", "B": "4"}``. Separators inside
    quotes do not count, and quotes around a whole value are dropped.

    Raises:
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
    pairs = {}
    key = parts[0][0]
    for part, mask in parts[1:-1]:
        cut = max(mask.rfind(","), mask.rfind(";"))
        if not 0 < cut < len(part) - 1:
            raise ValueError(what)
        pairs[key] = _unquote(part[:cut].strip())
        key = part[cut + 1 :].strip()
    pairs[key] = _unquote(parts[-1][0])
    return pairs


def _unquote(value: str) -> str:
    return value[1:-1] if value[0] == value[-1] and value[0] in "'\"" else value
