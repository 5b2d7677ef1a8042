"""Checks of a component's arguments, whose problems are raised together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_torchx.errors import ComponentError, InvalidAppError, SeveralProblemsError

if TYPE_CHECKING:
    from collections.abc import Callable


def check_all(*checks: Callable[[], Any]) -> list[Any]:
    """Return what every check returns, or raise one error with the problems of all.

    Raises:
        SeveralProblemsError: several checks raised an error.
        ComponentError, InvalidAppError: one did.
    """
    results, errors = [], []
    for check in checks:
        try:
            results.append(check())
        except (ComponentError, InvalidAppError) as error:
            errors.append(error)
    lines = dict.fromkeys(line for error in errors for line in problems_of(error))
    if len(lines) > 1 and len(errors) > 1:
        raise SeveralProblemsError([*lines])
    if errors:
        raise errors[0]
    return results


def problems_of(error: ComponentError | InvalidAppError) -> list[str]:
    """Return the problems in an error, one line for each."""
    if isinstance(error, InvalidAppError):
        return [str(problem) for problem in error.problems]
    if isinstance(error, SeveralProblemsError):
        return [*error.lines]
    return [" ".join(f"{error.what.rstrip('.')}. {error.fix}".split())]
