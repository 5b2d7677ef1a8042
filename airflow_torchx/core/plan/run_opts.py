"""Lists the run options under TorchX's names."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from airflow_torchx.core.plan.option_text import read_options, split_dict
from airflow_torchx.core.plan.options import KINDS, Opts, default_of, snake_case
from airflow_torchx.errors import InvalidOptionsError, Problem
from airflow_torchx.specs.docstrings import docstring

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


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

    def get(self, name: str) -> runopt | None:
        """Return an option by its name, also in camelCase; None if there is none."""
        return self._opts.get(snake_case(name))

    def resolve(self, cfg: Mapping[str, object]) -> dict[str, Any]:
        """Return valid options with all defaults.

        Raises:
            InvalidOptionsError: with one problem for every unknown name and invalid value.
        """
        parsed = Opts.parse(cfg)
        return {name: parsed[name] for name in self._opts}

    def cfg_from_str(self, cfg_str: str) -> dict[str, Any]:
        """Return the options in a text like ``env=A:1;B:2,privileged=True``, without defaults.

        Raises:
            InvalidOptionsError: the text is malformed, or has an unknown name or invalid value.
        """
        try:
            texts = split_dict(cfg_str)
        except ValueError:
            problem = Problem("options", "not a list of pairs", "write KEY=VALUE,KEY2=VALUE2")
            raise InvalidOptionsError([problem], subject="run options") from None
        given, problems = read_options(texts)
        if problems:
            raise InvalidOptionsError(problems, subject="run options")
        parsed = Opts.parse(given)
        return {name: parsed[name] for name in map(snake_case, given)}

    def __repr__(self) -> str:
        lines = [f"{name}={option.form}\n    {option.help}" for name, option in self]
        return "\n".join(lines)
