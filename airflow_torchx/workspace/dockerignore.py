"""Matching paths against a ``.dockerignore``, as Docker does.

The last line that matches a path or one of its parents decides. As in BuildKit, and unlike in the
classic builder, an exception such as ``!**/*.py`` also applies to files in an ignored folder.

The Docker SDK's matcher is not used: it ignores case, does not support backslashes, treats ``[!a]``
as a negation, and with any exception it keeps files in a folder that ``**/name`` ignores.
https://docs.docker.com/build/concepts/context/#dockerignore-files
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from airflow_torchx.errors import WorkspaceError

#: Name of the file in the root of a workspace.
IGNORE_FILE: Final = ".dockerignore"

_TOKEN: Final = re.compile(
    r"(?P<any>\*\*/?)|(?P<star>\*)|(?P<one>\?)|\\(?P<escaped>.)"
    r"|\[(?P<no>\^?)(?P<set>(?:\\.|[^]\\])+)\]|(?P<bad>[\[\\])|(?P<plain>.)",
    re.DOTALL,
)
_WILD: Final = re.compile(r"[*?\[\]\\]")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    number: int
    keeps: bool
    pattern: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rule:
    """Consecutive lines that all ignore, or all keep, as one regular expression."""

    keeps: bool
    expression: re.Pattern[str]
    patterns: tuple[tuple[str, ...], ...]


class Ignore:
    """The rules of one ``.dockerignore``.

    Args:
        text: its content.
        where: its name in errors.

    Raises:
        WorkspaceError: a line is invalid, in Docker too.
    """

    def __init__(self, text: bytes | str, where: str = IGNORE_FILE) -> None:
        lines = _lines(text, where)
        self._rules = tuple(
            _rule(keeps, tuple(group), where) for keeps, group in groupby(lines, lambda x: x.keeps)
        )
        # Cache: for each folder, which rules match it or one of its parents.
        self._above: dict[str, tuple[bool, ...]] = {"": (False,) * len(self._rules)}

    def ignores(self, path: str) -> bool:
        """Return whether a path is ignored; the contents of a folder may differ from the folder.

        The path is below the root of the workspace, without a leading slash.
        """
        above = self._above_of(path.rpartition("/")[0])
        for rule, matched in zip(reversed(self._rules), reversed(above), strict=True):
            if matched or rule.expression.fullmatch(path):
                return not rule.keeps
        return False

    def may_contain_kept(self, folder: str) -> bool:
        """Return whether an ignored folder can contain paths that are kept."""
        matched = self._above_of(folder)
        parts = tuple(folder.split("/"))
        for rule, hit in zip(reversed(self._rules), reversed(matched), strict=True):
            if hit and not rule.keeps:
                return False
            if rule.keeps and any(_reaches_into(parts, pattern) for pattern in rule.patterns):
                return True
        return False

    def _above_of(self, folder: str) -> tuple[bool, ...]:
        known = self._above.get(folder)
        if known is None:
            above = self._above_of(folder.rpartition("/")[0])
            known = tuple(
                hit or rule.expression.fullmatch(folder) is not None
                for rule, hit in zip(self._rules, above, strict=True)
            )
            self._above[folder] = known
        return known


def _lines(text: bytes | str, where: str) -> list[_Line]:
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    found = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        pattern = line.strip()
        if not pattern or line.startswith("#"):
            continue
        keeps = pattern.startswith("!")
        # normpath keeps two leading slashes.
        pattern = re.sub("^/+", "/", pattern.removeprefix("!").strip())
        pattern = posixpath.normpath(pattern) if pattern else ""
        if keeps and pattern in {"", "/"}:
            what = f"{where}, line {number}: {line.strip()!r} is an exception without a pattern."
            raise WorkspaceError(what, fix="Add a pattern after the '!', or remove the line.")
        found.append(_Line(number=number, keeps=keeps, pattern=pattern.removeprefix("/")))
    return found


def _rule(keeps: bool, lines: tuple[_Line, ...], where: str) -> _Rule:
    return _Rule(
        keeps=keeps,
        expression=re.compile("|".join(_expression(line, where) for line in lines), re.DOTALL),
        patterns=tuple(tuple(line.pattern.split("/")) for line in lines),
    )


def _expression(line: _Line, where: str) -> str:
    rest = line.pattern.removeprefix("**")
    if rest != line.pattern and not rest.startswith("/") and not _WILD.search(rest):
        return f".*{re.escape(rest)}"
    parts = [_translated(token) for token in _TOKEN.finditer(line.pattern)]
    try:
        if None not in parts:
            return re.compile("".join(part or "" for part in parts)).pattern
    except re.error:
        pass
    what = f"{where}, line {line.number}: {line.pattern!r} is not a valid pattern, in Docker too."
    raise WorkspaceError(what, fix="Close each '[', or escape a literal one with a backslash.")


def _translated(token: re.Match[str]) -> str | None:
    if token["any"]:
        return ".*" if token.end() == len(token.string) else "(?:.*/)?"
    if token["star"]:
        return "[^/]*"
    if token["one"]:
        return "[^/]"
    if token["set"]:
        # Future Python versions may treat a bare '[' or a doubled sign as a nested set.
        inside = re.sub(r"\\(.)|([^\w\\-])", lambda m: re.escape(m[1] or m[2]), token["set"])
        return f"[{token['no']}{inside}]"
    return None if token["bad"] else re.escape(token["escaped"] or token["plain"])


def _reaches_into(folder: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Return whether a pattern may match a path in a folder."""
    for name, part in zip(folder, pattern, strict=False):
        if "**" in part:
            return True
        if part != name and not _WILD.search(part):
            return False
    return True
