"""Finds every mistake in the options of a command line, of which `argparse` reports only one."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from airflow_torchx.specs.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_NEGATIVE: Final = re.compile(r"-(\d+|\d*\.\d+)")


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

    def matches(self, option: str) -> dict[str, str]:
        """Return the parameters that an option may mean, by its full spelling."""
        named = {one: name for name, all_ in self.spellings.items() for one in all_}
        if option in named or not option.startswith("--"):
            return {option: named[option]} if option in named else {}
        return {one: name for one, name in named.items() if one.startswith(option)}

    def nearest(self, option: str) -> str | None:
        """Return the parameter with the name closest to an option; None if none is close."""
        near = nearest(option, [f"--{name}" for name in self.spellings])
        return near and near.removeprefix("--")


@dataclass(frozen=True)
class Corrected:
    """Holds what a command line probably means.

    Args:
        args: the command line, with the nearest known names instead of unknown ones.
        mistakes: all mistakes in its options.
        incomplete: the parameters without a value.
    """

    args: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    incomplete: set[str] = field(default_factory=set)


def correct(args: Sequence[str], options: Options) -> Corrected:
    """Return what a command line probably means, and all mistakes in its options.

    Values are not checked.
    """
    found, left = Corrected(), deque(args)
    given = {name for arg in args for name in options.matches(arg.partition("=")[0]).values()}
    while left:
        arg = left.popleft()
        if _is_option(arg):
            _correct_option(arg, left, options, found, given)
        elif options.rest is not None:
            found.args.extend([arg, *left])
            break
        elif arg != "--":
            found.mistakes.append(f"unexpected argument {arg!r}")
    return found


def _correct_option(
    arg: str, left: deque[str], options: Options, found: Corrected, given: set[str]
) -> None:
    """Add an option and its value, which is part of ``arg`` or comes next."""
    option, equals, value = arg.partition("=")
    matches = options.matches(option)
    if not matches and arg[1] != "-" and options.matches(arg[:2]):
        # The value is attached, as in -j2x1.
        found.args.append(arg)
        return
    has_next = bool(left) and left[0] != "--" and not _is_option(left[0])
    values = [value] if equals else [left.popleft()] if has_next else []
    if len(matches) > 1:
        found.mistakes.append(f"ambiguous option: {option} could match {', '.join(matches)}")
        return
    name = next(iter(matches.values()), None)
    if name is None:
        found.mistakes.append(_unknown(option, options))
        near = options.nearest(option)
        name = None if near in given else near
    elif not values:
        spelled = "/".join(options.spellings[name])
        found.mistakes.append(f"argument {spelled}: expected one argument")
    if name is not None and values:
        found.args.append(f"--{name}={values[0]}")
    elif name is not None:
        found.incomplete.add(name)


def _is_option(arg: str) -> bool:
    is_text = arg in {"-", "--"} or " " in arg.partition("=")[0] or _NEGATIVE.fullmatch(arg)
    return arg.startswith("-") and not is_text


def _unknown(option: str, options: Options) -> str:
    if option in options.outer:
        return f"{option} does not belong to the component: put it before the component's name"
    near = options.nearest(option)
    hint = f"; did you mean --{near}?" if near else ""
    if not near and (outer := nearest(option, options.outer)):
        hint = f"; did you mean {outer}, before the component's name?"
    advice = f" (put options of {options.rest} after --)" if options.rest else ""
    return f"unknown option {option}{hint}{advice}"
