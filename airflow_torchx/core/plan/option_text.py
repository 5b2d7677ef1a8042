"""Run options as they are written on a command line or in a ``.torchxconfig``; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from airflow_torchx.core.plan.options import MAPPINGS, FailurePolicy, PullPolicy, snake_case
from airflow_torchx.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import Field

#: What TorchX writes for no value.
_NONE: Final = "None"


def read_options(written: Mapping[str, str]) -> tuple[dict[str, object], list[Problem]]:
    """Return run options, as `Opts.parse` takes them, from texts in TorchX's form.

    A mapping is ``KEY:VALUE;KEY2:VALUE2``, with commas or semicolons between the pairs; ``None`` is
    no value. All other texts are left to `Opts.parse`, unknown names too.

    Args:
        written: the texts, by name of the option.

    Returns:
        The options, and a problem for every mapping that has another form; it repeats no value,
        which may be a secret.
    """
    options: dict[str, object] = {}
    problems = []
    for name, text in written.items():
        option = snake_case(name)
        if text == _NONE:
            options[name] = None
        elif option not in MAPPINGS:
            options[name] = text
        elif (pairs := _pairs(text)) is None:
            fix = f"write {option}={_form(option)}"
            problems.append(Problem(f"options.{option}", "these are no pairs", fix))
        else:
            options[name] = _log_config(pairs) if option == "log_config" else pairs
    return options, problems


def _form(option: str) -> str:
    return "type:DRIVER;OPTION:VALUE" if option == "log_config" else "KEY:VALUE;KEY2:VALUE2"


def _pairs(text: str) -> dict[str, str] | None:
    parts = [part.strip() for part in text.replace(";", ",").split(",") if part.strip()]
    pairs = [part.partition(":") for part in parts]
    if not all(key and colon for key, colon, _ in pairs):
        return None
    return {key.strip(): value.strip() for key, _, value in pairs}


def _log_config(pairs: Mapping[str, str]) -> dict[str, object]:
    """Return the log driver that is called ``type`` among its own options."""
    settings = {name: value for name, value in pairs.items() if name != "type"}
    return {"type": pairs.get("type"), "config": settings}


def written_form(option: Field[Any]) -> str:
    """Return what is to be written for an option of `Opts`."""
    kind = str(option.type).removesuffix(" | None")
    if option.name in MAPPINGS:
        return _form(option.name)
    if "Sequence" in kind:
        return "A;B"
    if kind in _CHOICES:
        return "|".join(_CHOICES[kind])
    return {"bool": "true|false", "int": "NUMBER", "float": "NUMBER"}.get(kind, "TEXT")


_CHOICES: Final = {"PullPolicy": get_args(PullPolicy), "FailurePolicy": get_args(FailurePolicy)}
