"""Reads the summary and the arguments in a docstring."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Final

_ARGUMENTS: Final = re.compile(r"^(?:Args|Arguments):[ \t]*\n", re.MULTILINE)
_UNINDENTED: Final = re.compile(r"^(?=\S)", re.MULTILINE)
_ENTRY: Final = re.compile(r"^\*{0,2}(\w+)(?:[ \t]*\([^)\n]*\))?:", re.MULTILINE)


def docstring(documented: object) -> tuple[str, dict[str, str]]:
    """Return the first paragraph of a docstring, and its ``Args`` by name, on one line each."""
    text = (inspect.getdoc(documented) or "").replace("``", "`")
    before, *after = _ARGUMENTS.split(text, maxsplit=1)
    section = _UNINDENTED.split("".join(after), maxsplit=1)[0]
    parts = _ENTRY.split(textwrap.dedent(section))
    lines = {name: entry.splitlines() for name, entry in zip(parts[1::2], parts[2::2], strict=True)}
    entries = {name: " ".join(map(str.strip, entry)).strip() for name, entry in lines.items()}
    return " ".join(before.strip().partition("\n\n")[0].split()), entries
