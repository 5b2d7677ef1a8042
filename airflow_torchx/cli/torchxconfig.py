"""What ``.torchxconfig`` files say, in the order in which TorchX believes them; pure.

https://docs.pytorch.org/torchx/latest/runner.config.html describes them.
"""

from __future__ import annotations

import configparser
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from airflow_torchx.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Names the only file to read; an empty one reads none.
VARIABLE: Final = "TORCHXCONFIG"
FILE: Final = ".torchxconfig"


def places(environ: Mapping[str, str], home: str, folder: str) -> tuple[str, ...]:
    """Return the files that may be there, the first one being believed first.

    Args:
        environ: the environment.
        home: the user's home folder.
        folder: the current folder.
    """
    only = environ.get(VARIABLE)
    if only is not None:
        return (only,) if only else ()
    return tuple(dict.fromkeys(f"{place.rstrip('/')}/{FILE}" for place in (home, folder)))


@dataclass(frozen=True)
class TorchXConfig:
    """The sections of all files, merged: of one key in several files the first one counts.

    Args:
        sections: values by key, by section.
    """

    sections: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, files: Iterable[tuple[str, str]]) -> Self:
        """Return what files say.

        Args:
            files: path and text of each, the first one being believed first.

        Raises:
            UsageError: one is no INI file, and where.
        """
        sections: dict[str, dict[str, str]] = {}
        for path, text in files:
            parser = configparser.ConfigParser()
            # Keys keep their case, as options and parameters have one.
            parser.optionxform = str  # type: ignore[assignment,method-assign]
            try:
                parser.read_string(text, path)
                read = {name: dict(parser.items(name)) for name in parser.sections()}
            except configparser.Error as why:
                what = f"{path} cannot be read: {_told(why)}."
                fix = "Sections are [like this], values key = value, and a % is written as %%."
                raise UsageError(what, fix=fix) from None
            for name, values in read.items():
                sections[name] = {**values, **sections.get(name, {})}
        return cls(sections)

    def scheduler(self, name: str) -> Mapping[str, str]:
        """Return the run options in ``[name]``; `docker` and `local_docker` are one scheduler."""
        other = "docker" if name == "local_docker" else "local_docker"
        return {**self.sections.get(other, {}), **self.sections.get(name, {})}

    def command(self, name: str) -> Mapping[str, str]:
        """Return what counts for a command where its command line is silent: ``[cli:run]``."""
        return self.sections.get(f"cli:{name}", {})

    def component(self, name: str) -> Mapping[str, str]:
        """Return a component's arguments, by parameter: ``[component:dist.ddp]``."""
        return self.sections.get(f"component:{name}", {})


def _told(why: configparser.Error) -> str:
    """Return what is wrong and where; never a value, which may be a secret."""
    match why:
        case configparser.MissingSectionHeaderError():
            return f"line {why.lineno} stands in no section"
        case configparser.ParsingError():
            return f"line {why.errors[0][0]} is neither a section nor a value"
        case configparser.DuplicateSectionError():
            return f"section [{why.section}] is there twice, again in line {why.lineno}"
        case configparser.DuplicateOptionError():
            return f"{why.option} is there twice in [{why.section}], again in line {why.lineno}"
        case configparser.InterpolationError():
            return f"{why.option} in [{why.section}] has a % that means nothing"
        case _:
            return type(why).__name__
