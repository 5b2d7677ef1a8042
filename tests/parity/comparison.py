"""Two containers, compared by all that Docker tells of them."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Facts = Mapping[str, Any]


class Difference(NamedTuple):
    """A path of the inspect, and what stands there: None for nothing."""

    path: str
    theirs: object
    ours: object


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The same replica, launched by TorchX and by us.

    Args:
        theirs, ours: facts of its containers.
        theirs_rank0, ours_rank0: facts of the containers of replica 0 of the first role.
    """

    theirs: Facts
    ours: Facts
    theirs_rank0: Facts
    ours_rank0: Facts

    def differences(self) -> Iterator[Difference]:
        """Yield each path at which they differ."""
        for path in sorted({*self.theirs, *self.ours}):
            theirs, ours = self.theirs.get(path), self.ours.get(path)
            if theirs != ours:
                yield Difference(path, theirs, ours)


@dataclass(frozen=True, kw_only=True)
class Intended:
    """A difference that we want.

    Args:
        paths: where, as glob patterns.
        holds: tells whether a difference there is the one that is meant, and no other.
        why: the reason.
    """

    paths: tuple[str, ...]
    holds: Callable[[Pair, Difference], bool]
    why: str

    def covers(self, pair: Pair, difference: Difference) -> bool:
        """Tell whether a difference is this one."""
        return matches(difference.path, self.paths) and self.holds(pair, difference)


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Tell whether a path fits one of these glob patterns."""
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def facts(inspect: Mapping[str, Any]) -> dict[str, Any]:
    """Return an inspect as paths and values.

    Variables go by their names, mounts by their targets, for their order means nothing. Nothing
    and an empty list are the same to Docker: which one it tells depends on how it was asked.
    """
    config = inspect["Config"]
    variables = dict(text.split("=", 1) for text in config["Env"])
    mounts = {mount["Destination"]: mount for mount in inspect["Mounts"]}
    named = {**inspect, "Config": {**config, "Env": variables}, "Mounts": mounts}
    return dict(_leaves("", named))


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}" if path else key, item)
    elif value is not None and value != []:
        yield path, _without_nothing(value)


def _without_nothing(value: object) -> object:
    if isinstance(value, dict):
        kept = {key: _without_nothing(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, [], {})}
    if isinstance(value, list):
        return [_without_nothing(item) for item in value]
    return value
