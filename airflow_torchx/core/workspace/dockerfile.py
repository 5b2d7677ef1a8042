"""Finds out from a Dockerfile's text whether it needs BuildKit."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Flags, by instruction, that only BuildKit supports.
_FLAGS: Final = {
    "RUN": {"mount", "network", "security", "device"},
    "COPY": {"chmod", "link", "parents", "exclude"},
    "ADD": {"chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"},
}
#: Arguments that only BuildKit sets; with the classic builder they are empty.
_PLATFORM_ARGS: Final = frozenset(
    side + what for side in ("BUILD", "TARGET") for what in ("PLATFORM", "OS", "ARCH", "VARIANT")
)
_DIRECTIVE: Final = re.compile(r"#\s*(syntax|escape|check)\s*=\s*(.+?)\s*", re.IGNORECASE)
#: A shell word: quotes keep spaces together.
_WORD: Final = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])+""")
#: BuildKit takes whole words only: not ``<<<``, not in quotes, not ``$((1<<2))``.
_HEREDOC: Final = re.compile(r"""\d*<<-?["']?[A-Za-z_][^<]*""")
_VARIABLE: Final = re.compile(r"\$\{?(\w+)")


class _Instruction(NamedTuple):
    """One instruction in its first line, with its continued lines joined; the name in capitals."""

    name: str
    args: str
    line: int


def buildkit_reason(text: str, secrets: Sequence[str]) -> str | None:
    """Return why a Dockerfile needs BuildKit, like ``RUN --mount in line 3``, or None.

    It does not check the base image's ``ONBUILD`` instructions.
    """
    if secrets:
        return "build secrets"
    for line, (name, value) in enumerate(_directives(text), start=1):
        if name == "syntax":
            return f"# syntax={value} in line {line}"
    for instruction in _instructions(text):
        if found := _buildkit_feature(instruction):
            return f"{found} in line {instruction.line}"
    return None


def problem(text: str) -> str | None:
    """Return why a text cannot be a Dockerfile; None if it may be one."""
    names = {instruction.name for instruction in _instructions(text)}
    if not names:
        return "it has no instruction"
    return None if "FROM" in names else "it has no FROM instruction"


def _buildkit_feature(instruction: _Instruction) -> str | None:
    name, args, _ = instruction
    words = _WORD.findall(args)
    if name in _FLAGS:
        flags = itertools.takewhile(lambda word: word.startswith("--"), words)
        for flag in (word[2:].partition("=")[0] for word in flags):
            if flag in _FLAGS[name]:
                return f"{name} --{flag}"
        heredocs = [] if _is_json(args) else filter(_HEREDOC.fullmatch, words)
        return next((f"{name} {word}" for word in heredocs), None)
    if name == "ARG":
        return next((f"ARG {word}" for word in words if word in _PLATFORM_ARGS), None)
    if name == "FROM":
        used = _VARIABLE.findall(args)
        return next((f"FROM ${word}" for word in used if word in _PLATFORM_ARGS), None)
    return None


def _is_json(args: str) -> bool:
    try:
        return isinstance(json.loads(args), list)
    except ValueError:
        return False


def _directives(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and value of the parser directives at the top."""
    for line in _lines(text):
        if not (match := _DIRECTIVE.fullmatch(line)):
            return
        yield match[1].lower(), match[2]


def _instructions(text: str) -> Iterator[_Instruction]:
    escape = re.escape(dict(_directives(text)).get("escape", "\\"))
    continued = re.compile(f"(?:^|(?<!{escape})){escape}$")
    parts: list[str] = []
    first = 0
    for number, line in enumerate(_lines(text), start=1):
        # Comments and blank lines do not end a continued line.
        if not line or line.lstrip().startswith("#"):
            continue
        first = first if parts else number
        parts.append(continued.sub("", line))
        if not continued.search(line):
            yield from _instruction("".join(parts), first)
            parts.clear()
    yield from _instruction("".join(parts), first)


def _instruction(text: str, line: int) -> Iterator[_Instruction]:
    name, args, *_ = [*text.split(maxsplit=1), "", ""]
    if name.upper() == "ONBUILD" and args:
        yield from _instruction(args, line)
    elif name:
        yield _Instruction(name.upper(), args, line)


def _lines(text: str) -> Iterator[str]:
    """Yield the lines without trailing white space."""
    # splitlines() would also split at a form feed, which Docker does not.
    return (line.rstrip() for line in text.removeprefix("\ufeff").split("\n"))
