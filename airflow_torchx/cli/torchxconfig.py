"""Parses and merges ``.torchxconfig`` files with TorchX's precedence; pure.

See https://docs.pytorch.org/torchx/latest/runner.config.html.
"""

from __future__ import annotations

import configparser
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from airflow_torchx.cli.commands import SCHEDULERS
from airflow_torchx.core.plan.job_plan import TRACKERS, tracker_variable
from airflow_torchx.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Environment variable with the only file to read; no file if empty.
VARIABLE: Final = "TORCHXCONFIG"
FILE: Final = ".torchxconfig"


def config_paths(environ: Mapping[str, str], home: str, folder: str) -> tuple[str, ...]:
    """Return the paths of possible files below the home and current folder, by precedence."""
    only = environ.get(VARIABLE)
    if only is not None:
        return (only,) if only else ()
    return tuple(dict.fromkeys(f"{parent.rstrip('/')}/{FILE}" for parent in (home, folder)))


@dataclass(frozen=True)
class TorchXConfig:
    """Holds the merged sections of all files; the first file with a key wins."""

    #: Values by section and key.
    sections: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, files: Iterable[tuple[str, str]]) -> Self:
        """Return the merged configuration of files: path and text, in order of precedence.

        Raises:
            UsageError: a file is not a valid INI file.
        """
        sections: dict[str, dict[str, str]] = {}
        for path, text in files:
            parser = configparser.ConfigParser()
            # Options and parameters are case-sensitive.
            parser.optionxform = str  # type: ignore[assignment,method-assign]
            try:
                parser.read_string(text, path)
                parsed = {name: dict(parser.items(name)) for name in parser.sections()}
            except configparser.Error as error:
                what = f"cannot parse {path}: {_describe(error)}"
                fix = "Write a section as [name], a value as key = value, and % as %%."
                raise UsageError(what, fix=fix) from None
            for name, values in parsed.items():
                sections[name] = {**values, **sections.get(name, {})}
        return cls(sections)

    def scheduler(self, name: str) -> Mapping[str, str]:
        """Return the run options in ``[name]``; `docker` and `local_docker` are one scheduler."""
        other = "docker" if name == "local_docker" else "local_docker"
        return {**self.sections.get(other, {}), **self.sections.get(name, {})}

    def command(self, name: str) -> Mapping[str, str]:
        """Return the defaults of a command's arguments: ``[cli:run]``."""
        return self.sections.get(f"cli:{name}", {})

    def trackers(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the experiment trackers and the configuration of each, which may be empty.

        The names are those of ``TORCHX_TRACKERS``, else the keys of ``[torchx:tracker]``. The
        configuration is that of the tracker's own variable, else of ``[tracker:NAME]``.
        """
        names = [*self.sections.get("torchx:tracker", {})]
        if TRACKERS in environ:
            names = [name.strip() for name in environ[TRACKERS].split(",") if name.strip()]
        return {
            name: environ.get(
                tracker_variable(name), self.sections.get(f"tracker:{name}", {}).get("config", "")
            )
            for name in names
        }

    def without_effect(self, environ: Mapping[str, str]) -> list[str]:
        """Return the sections that nothing reads, like those of other schedulers."""
        known = {*SCHEDULERS, "cli:run", "torchx:tracker"}
        known |= {f"tracker:{name}" for name in self.trackers(environ)}
        return [
            name
            for name in self.sections
            if name not in known and not name.startswith("component:")
        ]

    def component(self, name: str) -> Mapping[str, str]:
        """Return the defaults of a component's parameters: ``[component:dist.ddp]``."""
        return self.sections.get(f"component:{name}", {})


def _describe(error: configparser.Error) -> str:
    """Return the problem and its location, without values, which may be secret."""
    match error:
        case configparser.MissingSectionHeaderError():
            return f"line {error.lineno} is outside any section"
        case configparser.ParsingError():
            return f"line {error.errors[0][0]} is neither a section nor a value"
        case configparser.DuplicateSectionError():
            return f"section [{error.section}] is repeated in line {error.lineno}"
        case configparser.DuplicateOptionError():
            return f"{error.option} in [{error.section}] is repeated in line {error.lineno}"
        case configparser.InterpolationError():
            return f"{error.option} in [{error.section}] has an invalid %"
        case _:
            return type(error).__name__
