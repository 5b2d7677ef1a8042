"""The pages that people read: their code blocks, links and tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
#: Pages for users; their code blocks are run.
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
#: Pages for everyone; their links are followed.
ALL: Final = (*PAGES, *(path for path in sorted(ROOT.glob("*.md")) if path not in PAGES))

_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_HEADING: Final = re.compile(r"^#+ (.*)$", re.MULTILINE)
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")


#: Shell blocks that start like these set up a swarm, in this order.
SETS_UP: Final = (
    "docker swarm init",
    "docker node ls",
    "docker node update",
    "docker run -d --restart always --name registry",
    "openssl req -x509",
)


class Block(NamedTuple):
    """One fenced block of a page.

    Args:
        page: name of the page's file.
        line: line of the page that the block starts on.
        language: the word after the fence.
        text: what is in it.
    """

    page: str
    line: int
    language: str
    text: str


def blocks(language: str, *pages: Path) -> list[Block]:
    """Return the blocks of a language, on these pages or on all pages for users."""
    return [
        Block(page.name, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for page in pages or PAGES
        for text in [page.read_text()]
        for match in _BLOCK.finditer(text)
        if match[1] == language
    ]


def block_with(text: str) -> str:
    """Return the only shell block that contains a text."""
    (found,) = [block.text for block in blocks("sh") if text in block.text]
    return found


def is_for_swarm(block: str) -> bool:
    """Return whether a shell block takes a manager of a swarm, where `tests/swarm` runs it."""
    return "-s docker_swarm" in block or block.startswith(SETS_UP)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    text = _BLOCK.sub("", page.read_text())
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading.lower())).replace(
            " ", "-"
        )
        for heading in _HEADING.findall(text)
    }


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and pictures."""
    return _LINK.findall(_BLOCK.sub("", page.read_text()))


def first_cells(page: str, heading: str) -> list[str]:
    """Return the first cells of the rows of the tables below a heading of a page in ``docs/``."""
    text = (ROOT / "docs" / page).read_text()
    section = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", section, flags=re.MULTILINE)[0]
    return re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)


def names(page: str, heading: str) -> set[str]:
    """Return the names that are defined by the tables below a heading of a page in ``docs/``."""
    return {name for cell in first_cells(page, heading) for name in re.findall(r"`(\w+)`", cell)}
