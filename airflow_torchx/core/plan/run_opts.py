"""Lists the run options under TorchX's names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self, get_origin

from airflow_torchx.core.plan.option_text import read_options
from airflow_torchx.core.plan.options import KINDS, Opts, default_of, snake_case, unknown_option
from airflow_torchx.errors import InvalidOptionsError, Problem
from airflow_torchx.specs.docstrings import docstring

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


@dataclass(frozen=True)
class runopt:  # noqa: N801 - TorchX's name
    """Describes a run option.

    Args:
        default: its default.
        opt_type: the type of its value.
        is_required: whether it must be set; no option must be.
        help: its meaning.
        form: how its value is written on a command line.
    """

    default: object
    opt_type: object
    is_required: bool
    help: str
    form: str = ""


class runopts:  # noqa: N801 - TorchX's name
    """Lists run options, as pairs of name and `runopt`.

    Args:
        names: the options; None for all.
    """

    def __init__(self, names: Collection[str] | None = None) -> None:
        _, meanings = docstring(Opts)
        self._opts = {
            option.name: runopt(
                default=default_of(option),
                opt_type=KINDS[option.name].type,
                is_required=False,
                help=meanings[option.name],
                form=KINDS[option.name].form,
            )
            for option in fields(Opts)
            if names is None or option.name in names
        }

    def __iter__(self) -> Iterator[tuple[str, runopt]]:
        return iter(self._opts.items())

    def __len__(self) -> int:
        return len(self._opts)

    def __or__(self, other: runopts) -> Self:
        """Return the options of both."""
        return type(self)({*self._opts, *other._opts})

    def update(self, other: runopts) -> None:
        """Add the options of another list."""
        self._opts |= other._opts

    @staticmethod
    def is_type(obj: object, tp: Any) -> bool:  # noqa: ANN401 - a type, also like `list[str]`
        """Return whether a value has a type, like `isinstance`; items of a container are texts."""
        kind = get_origin(tp)
        if kind is dict:
            return isinstance(obj, Mapping) and all(
                isinstance(x, str) for p in obj.items() for x in p
            )
        if kind is list:
            return isinstance(obj, list | tuple) and all(isinstance(item, str) for item in obj)
        return isinstance(obj, tp)

    def canonical_key(self, name: str) -> str | None:
        """Return the name of an option that may be in camelCase; None if there is none."""
        key = snake_case(name)
        return key if key in self._opts else None

    def get(self, name: str) -> runopt | None:
        """Return an option by its name, also in camelCase; None if there is none."""
        return self._opts.get(snake_case(name))

    def resolve(self, cfg: Mapping[str, object], *, ignore_unknown: bool = False) -> dict[str, Any]:
        """Return valid options with all defaults; unknown names are passed through if ignored.

        Raises:
            InvalidOptionsError: with one problem for every unknown name and invalid value.
        """
        unknown = {key: value for key, value in cfg.items() if not self.canonical_key(key)}
        problems = [] if ignore_unknown else [unknown_option(key, self._opts) for key in unknown]
        try:
            parsed = Opts.parse({key: value for key, value in cfg.items() if key not in unknown})
        except InvalidOptionsError as error:
            problems += error.problems
        else:
            if not problems:
                return {name: parsed[name] for name in self._opts} | unknown
        raise InvalidOptionsError(problems, subject="run options")

    def cfg_from_str(self, cfg_str: str) -> dict[str, Any]:
        """Return the options in a text like ``env=A:1;B:2,privileged=True``, without defaults.

        Raises:
            InvalidOptionsError: the text is malformed, or has an unknown name or invalid value.
        """
        given, problems = read_options(cfg_str)
        if problems:
            raise InvalidOptionsError(problems, subject="run options")
        return _given(given)

    def cfg_from_json_repr(self, json_repr: str, *, ignore_unknown: bool = False) -> dict[str, Any]:
        """Return the options in a JSON object, without defaults; unknown ones may be ignored.

        Raises:
            InvalidOptionsError: it is not a JSON object, or has an unknown name or invalid value.
        """
        try:
            cfg = json.loads(json_repr)
            if isinstance(cfg, dict):
                names = filter(self.canonical_key, cfg) if ignore_unknown else cfg
                return _given({name: cfg[name] for name in names})
            what = "not a JSON object"
        except InvalidOptionsError:
            raise
        except ValueError:
            what = "not JSON"
        except RecursionError:
            what = "nested too deeply"
        problem = Problem("options", what, 'write {"NAME": VALUE, "NAME2": VALUE2}')
        raise InvalidOptionsError([problem], subject="run options")

    def __repr__(self) -> str:
        lines = [f"{name}={option.form}\n    {option.help}" for name, option in self]
        return "\n".join(lines)


def _given(cfg: Mapping[str, object]) -> dict[str, Any]:
    """Return valid options without defaults."""
    parsed = Opts.parse(cfg)
    return {name: parsed[name] for name in map(snake_case, cfg)}
