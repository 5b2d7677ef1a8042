"""Errors that a test plans ahead, to see what happens when the daemon refuses."""

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
        times: how often it still happens.
        after: the daemon does what was asked, and only its answer is lost.
    """

    verb: Verb
    error: BaseException
    on: str
    times: int
    after: bool


class Faults:
    """The errors that are planned and did not happen yet. Not safe to use without a lock."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []

    def plan(self, fault: Fault) -> None:
        """Add one more."""
        self._planned.append(fault)

    def take(self, verb: Verb, names: Collection[str]) -> Fault | None:
        """Return the fault that happens to this call, and count it."""
        for fault in self._planned:
            if fault.times and fault.verb == verb and (not fault.on or fault.on in names):
                fault.times -= 1
                return fault
        return None
