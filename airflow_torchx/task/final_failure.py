"""Errors after which Airflow does not retry the task."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_torchx.errors import (
    AirflowTorchXError,
    ComponentError,
    ConditionError,
    FunctionError,
    InvalidAppError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.errors import AppFailedError
    from airflow_torchx.task.options import TaskOptions

_Error = TypeVar("_Error", bound=AirflowTorchXError)

_OF_ARGUMENTS: Final = (
    InvalidAppError,
    ComponentError,
    FunctionError,
    UsageError,
    ConditionError,
)


@contextmanager
def checked_arguments() -> Iterator[None]:
    """Let Airflow not retry the task after an error of its arguments: the next try has it, too.

    The block must not depend on the daemon, which may answer something else to the next try.
    """
    try:
        yield
    except _OF_ARGUMENTS as error:
        raise without_retry(error) from error


def raise_as_asked(failed: AppFailedError, options: TaskOptions, action: str | None) -> None:
    """Skip the task, or fail it without a retry, if its exit codes or a failure rule ask for it.

    Args:
        failed: how the app failed.
        options: of the task, with its exit codes.
        action: what the failure rule that has matched asks for.
    """
    if failed.exit_code in options.skip_on_exit_code:
        raise AirflowSkipException(failed.card) from failed
    if failed.exit_code in options.fail_on_exit_code or action == "fail":
        raise without_retry(failed) from failed


def without_retry(failure: _Error) -> _Error:
    """Return an error of the same class and attributes that is an `AirflowFailException`, too.

    Callbacks and listeners get the error of a task: they can ask it for the rule and the worker.
    """
    args, kwargs = failure._init_args  # noqa: SLF001 - of our own base class
    return _final(type(failure))(*args, **kwargs)


def _final(kind: type[_Error]) -> type[_Error]:
    def reduce(self: AirflowTorchXError) -> tuple[Any, ...]:
        args, kwargs = self._init_args
        return without_retry, (kind(*args, **kwargs),)

    fields = {"__doc__": kind.__doc__, "__module__": kind.__module__, "__reduce__": reduce}
    found = type(kind.__name__, (kind, AirflowFailException), fields)
    return cast("type[_Error]", found)
