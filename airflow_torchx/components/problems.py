"""Collects the problems of a component's arguments, so that one error has all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_torchx.errors import ComponentError, InvalidAppError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class SeveralProblemsError(ComponentError):
    """Several arguments of a component are invalid; ``lines`` has one line for each problem."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n  - ".join(["invalid arguments:", *lines]))


def arguments_error(name: str, lines: Sequence[str], usage: str) -> ComponentError:
    """Return the error for arguments of the component ``name``, with one line for each problem."""
    lines = [f"invalid arguments for component {name!r}:", *dict.fromkeys(lines)]
    return ComponentError("\n  - ".join(lines), fix=usage)


def check_all(*checks: Callable[[], object]) -> None:
    """Call every check, and raise one error with the problems of all.

    Raises:
        SeveralProblemsError: several checks raised an error.
        ComponentError, InvalidAppError: one did.
    """
    errors = []
    for check in checks:
        try:
            check()
        except (ComponentError, InvalidAppError) as error:
            errors.append(error)
    lines = dict.fromkeys(line for error in errors for line in problems_of(error))
    if len(lines) > 1 and len(errors) > 1:
        raise SeveralProblemsError([*lines])
    if errors:
        raise errors[0]


def problems_of(error: ComponentError | InvalidAppError) -> list[str]:
    """Return the problems in an error, one line for each."""
    if isinstance(error, InvalidAppError):
        return [str(problem) for problem in error.problems]
    if isinstance(error, SeveralProblemsError):
        return [*error.lines]
    return [" ".join(f"{error.what.rstrip('.')}. {error.fix}".split())]
