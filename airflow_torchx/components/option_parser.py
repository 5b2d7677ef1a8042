"""Splits a command line into the texts of its options, and finds every mistake in them."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from airflow_torchx.specs.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

#: What to do about options that users expect in every component.
_INSTEAD: Final = {
    "--help": "it takes no value, and only the command line has it",
    "--image": "set image= in a DAG, or use another component, like utils.sh",
}
_NEGATIVE: Final = re.compile(r"-(\d+|\d*\.\d+)")


@dataclass(frozen=True)
class Texts:
    """Holds the texts of a command line.

    Args:
        given: the texts of each parameter that the command line names.
        mistakes: all mistakes in its options.
        incomplete: the parameters whose option has no value.
    """

    given: dict[str, list[str]] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    incomplete: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Options:
    """Describes the options of a component.

    Args:
        spellings: all spellings of each option by the name of its parameter.
        rest: the parameter that takes what follows the options; None if nothing may follow.
        outer: options of the command that runs the component; they come before it.
    """

    spellings: Mapping[str, Sequence[str]]
    rest: str | None
    outer: Collection[str] = ()

    def split(self, args: Sequence[str]) -> Texts:
        """Return the texts of a command line by the rules of `argparse`.

        The option with the nearest name gets the value of an unknown one, unless it is given, too.
        Values are not checked.
        """
        found, left = Texts(), deque(args)
        named = {name for arg in args for name in self._matches(arg.partition("=")[0]).values()}
        while left:
            arg = left.popleft()
            # With a space, it is a value or belongs to the rest.
            option = arg if self.rest else arg.partition("=")[0]
            if self._is_option(option):
                self._take(arg, left, found, named)
            elif self.rest is not None:
                found.given[self.rest] = [arg, *left]
                break
            else:
                found.mistakes.append(f"unexpected argument {arg!r}")
        return found

    def _take(self, arg: str, left: deque[str], found: Texts, named: set[str]) -> None:
        """Add an option and its value, which is part of ``arg`` or comes next."""
        option, equals, value = arg.partition("=")
        if self._is_attached(arg):
            option, equals, value = arg[:2], "=", arg[2:]
        matches = self._matches(option)
        has_next = bool(left) and left[0] != "--" and not self._is_option(left[0])
        values = [value] if equals else [left.popleft()] if has_next else []
        name = next(iter(matches.values()), None)
        if len(matches) > 1:
            found.mistakes.append(f"ambiguous option: {option} could match {', '.join(matches)}")
            return
        if name is None:
            near = self._nearest(option)
            found.mistakes.append(self._unknown(option, near))
            name = near if near in self.spellings and near not in named else None
        elif not values:
            spelled = "/".join(self.spellings[name])
            found.mistakes.append(f"argument {spelled}: expected one argument")
        if name is not None and values:
            found.given.setdefault(name, []).extend(values)
        elif name is not None:
            found.incomplete.add(name)

    def _matches(self, option: str) -> dict[str, str]:
        """Return the parameters that an option may mean, by its full spelling."""
        named = {one: name for name, all_ in self.spellings.items() for one in all_}
        if option in named or not option.startswith("--"):
            return {option: named[option]} if option in named else {}
        return {one: name for one, name in named.items() if one.startswith(option)}

    def _is_attached(self, arg: str) -> bool:
        """Return whether an argument has a short option and its value, as -j2x1."""
        is_whole = self._matches(arg.partition("=")[0])
        return not is_whole and arg[1:2] != "-" and bool(self._matches(arg[:2]))

    def _is_option(self, arg: str) -> bool:
        if not arg.startswith("-") or arg in {"-", "--"}:
            return False
        if self._matches(arg.partition("=")[0]) or self._is_attached(arg):
            return True
        return " " not in arg and not _NEGATIVE.fullmatch(arg)

    def _nearest(self, option: str) -> str | None:
        """Return the parameter closest to an option, or ``help``; None if none is close."""
        return nearest(option, [*self.spellings, "help"])

    def _unknown(self, option: str, near: str | None) -> str:
        if option in self.outer:
            return f"{option} does not belong to the component: put it before the component's name"
        if option in _INSTEAD:
            return f"unknown option {option}; {_INSTEAD[option]}"
        hint = f"; did you mean --{near}?" if near else ""
        if not near and (outer := nearest(option, self.outer)):
            hint = f"; did you mean {outer}, before the component's name?"
        advice = f" (put options of {self.rest} after --)" if self.rest else ""
        return f"unknown option {option}{hint}{advice}"
