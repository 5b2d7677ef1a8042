"""Failures of an app after which Airflow does not retry the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow_torchx.errors import AppFailedError


def without_retry(failure: AppFailedError) -> AppFailedError:
    """Return a failure of the same class and attributes that is an `AirflowFailException`, too.

    Callbacks and listeners get the error of a task: they can ask it for the rule and the worker.
    """
    args, kwargs = failure._init_args  # noqa: SLF001 - of our own base class
    return _final(type(failure))(*args, **kwargs)


def _final(kind: type[AppFailedError]) -> type[AppFailedError]:
    def reduce(self: AppFailedError) -> tuple[Any, ...]:
        args, kwargs = self._init_args
        return without_retry, (kind(*args, **kwargs),)

    fields = {"__doc__": kind.__doc__, "__module__": kind.__module__, "__reduce__": reduce}
    found = type(kind.__name__, (kind, AirflowFailException), fields)
    return cast("type[AppFailedError]", found)
