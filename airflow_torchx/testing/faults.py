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
    "start",
    "rename",
    "stop",
    "remove",
    "rows",
    "inspect",
    "logs",
    "events",
    "read_file",
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


class Faults:
    """The planned errors that were not raised yet. Not thread-safe."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []

    def plan(self, fault: Fault) -> None:
        """Add an error."""
        self._planned.append(fault)

    def take(self, verb: Verb, names: Collection[str]) -> Fault | None:
        """Return the fault of this call, if any, and count it."""
        for fault in self._planned:
            if fault.times and fault.verb == verb and (not fault.on or fault.on in names):
                fault.times -= 1
                return fault
        return None
