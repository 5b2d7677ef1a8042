"""Parses and merges ``.torchxconfig`` files with TorchX's precedence; pure.

See https://docs.pytorch.org/torchx/latest/runner.config.html.
"""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass, field
from textwrap import dedent
from typing import TYPE_CHECKING, Final, Self

from airflow_torchx.cli.commands import SCHEDULERS, canonical
from airflow_torchx.core.plan.options import snake_case
from airflow_torchx.core.plan.trackers import TRACKERS, tracker_variable
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
    #: Sections that cannot be read; they stop only what uses them.
    invalid: Mapping[str, UsageError] = field(default_factory=dict)

    @classmethod
    def parse(cls, files: Iterable[tuple[str, str]]) -> Self:
        """Return the merged configuration of files: path and text, in order of precedence.

        Files are decoded with ``surrogateescape``. Sections are parsed one by one, so an invalid
        one stops only what uses it.

        Raises:
            UsageError: a line is outside any section.
        """
        sections: dict[str, dict[str, str]] = {}
        invalid: dict[str, UsageError] = {}
        for path, text in files:
            for name, own_text in _split(path, text).items():
                try:
                    found = _values(path, own_text)
                except UsageError as error:
                    invalid.setdefault(name, error)
                    found = {name: {}}
                for section, values in found.items():
                    sections[section] = _merged(values, sections.get(section, {}))
        return cls(sections, invalid)

    def section(self, name: str) -> Mapping[str, str]:
        """Return the values in a section, which may be missing.

        Raises:
            UsageError: it is invalid in a file.
        """
        if name in self.invalid:
            raise self.invalid[name]
        return self.sections.get(name, {})

    def scheduler(self, name: str) -> Mapping[str, str]:
        """Return the run options in ``[name]``; `docker` and `local_docker` are one scheduler."""
        other = next((o for o in SCHEDULERS if o != name and canonical(o) == canonical(name)), name)
        return _merged(self.section(other), self.section(name))

    def command(self, name: str) -> Mapping[str, str]:
        """Return the defaults of a command's arguments: ``[cli:run]``."""
        return self.section(f"cli:{name}")

    def trackers(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the experiment trackers and the configuration of each, which may be empty.

        The names are those of ``TORCHX_TRACKERS``, else the keys of ``[torchx:tracker]``. The
        configuration is that of the tracker's own variable, else of ``[tracker:NAME]``.
        """
        if TRACKERS not in environ:
            names = [*self.section("torchx:tracker")]
        else:
            names = [name.strip() for name in environ[TRACKERS].split(",") if name.strip()]
        return {
            name: environ.get(
                tracker_variable(name), self.section(f"tracker:{name}").get("config", "")
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
        return self.section(f"component:{name}")


def _merged(values: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return values without those that ``own`` has, perhaps in another spelling, and ``own``."""
    names = {snake_case(key) for key in own}
    return {key: value for key, value in values.items() if snake_case(key) not in names} | {**own}


def _split(path: str, text: str) -> dict[str, str]:
    """Return the text of each section, and of [DEFAULT]; all other lines are empty.

    Raises:
        UsageError: a line is outside any section.
    """
    lines = dedent(text).split("\n")
    owner, texts = "", {"": [""] * len(lines), configparser.DEFAULTSECT: [""] * len(lines)}
    for number, line in enumerate(lines):
        # An indented header may continue a value.
        header = configparser.ConfigParser.SECTCRE.match(line if owner else line.lstrip())
        owner = header["header"] if header else owner
        texts.setdefault(owner, [""] * len(lines))[number] = line
    _values(path, "\n".join(texts.pop("")))
    defaults = texts.pop(configparser.DEFAULTSECT)
    return {
        name: "\n".join(line or default for line, default in zip(own, defaults, strict=True))
        for name, own in texts.items()
    }


def _values(path: str, text: str) -> dict[str, dict[str, str]]:
    """Return the values of the sections in a text.

    Raises:
        UsageError: the text is not valid.
    """
    parser = configparser.ConfigParser()
    # Options and parameters are case-sensitive.
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text, path)
        text.encode()
        return {name: dict(parser.items(name)) for name in parser.sections()}
    except UnicodeEncodeError as error:
        problem = f"line {len(text[: error.start].split(chr(10)))} is not UTF-8"
    except configparser.Error as error:
        problem = _describe(error, text)
    fix = "Write a section as [name], a value as key = value, and % as %%."
    raise UsageError(f"cannot parse {path}: {problem}", fix=fix)


def _describe(error: configparser.Error, text: str) -> str:
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
            key = re.compile(rf"\s*{re.escape(error.option)}\s*[=:]")
            line = next((n for n, one in enumerate(text.split("\n"), 1) if key.match(one)), "?")
            return f"{error.option} in [{error.section}] has an invalid % in line {line}"
        case _:
            return type(error).__name__
