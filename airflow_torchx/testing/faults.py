"""Errors that a test injects into calls of a fake daemon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection

Verb: TypeAlias = Literal[
    "info",
    "find_image",
    "pull",
    "networks",
    "create_network",
    "remove_network",
    "create",
    "clone",
    "start",
    "place",
    "gpus",
    "never_fits",
    "rename",
    "stop",
    "signal",
    "remove",
    "discard",
    "rows",
    "sizes",
    "inspect",
    "unused_volumes",
    "remove_volume",
    "logs",
    "events",
    "read_file",
    "archive",
    "usage",
    "execute",
    "image_rows",
    "image_inspect",
    "prepare",
    "put_files",
    "commit",
    "build",
    "tag",
    "untag",
    "push",
    "is_published",
]


@dataclass(kw_only=True)
class Fault:
    """One planned error.

    Args:
        times: how many more calls it affects.
        after: whether the call is executed before it fails.
    """

    verb: Verb
    error: BaseException
    on: str
    times: int
    after: bool

    def hits(self, verb: Verb, names: Collection[str]) -> bool:
        """Return whether it affects a call."""
        return self.times > 0 and self.verb == verb and (not self.on or self.on in names)
