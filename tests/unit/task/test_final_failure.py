"""Errors of arguments, after which Airflow does not retry a task."""

from __future__ import annotations

import pickle

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_torchx.errors import (
    AirflowTorchXError,
    ComponentError,
    ComponentNotFoundError,
    ConditionError,
    EngineUnreachableError,
    FunctionError,
    InvalidAppError,
    InvalidHandleError,
    InvalidOptionsError,
    LaunchError,
    MissingOptionError,
    Problem,
    SeveralProblemsError,
    UsageError,
    WorkspaceError,
)
from airflow_torchx.task.final_failure import checked_arguments

PROBLEM = Problem("name", "it is empty", "set it")


@pytest.mark.parametrize(
    "error",
    [
        InvalidAppError([PROBLEM], subject="app 'a'"),
        InvalidHandleError("x"),
        InvalidOptionsError([PROBLEM]),
        MissingOptionError("it is not set", "network"),
        ComponentError("no such component.", fix="Use another one."),
        ComponentNotFoundError("no such component."),
        SeveralProblemsError(["one", "two"]),
        FunctionError("it is a lambda.", fix="Use def."),
        UsageError("not absolute"),
        ConditionError("no target state is given."),
    ],
    ids=repr,
)
def test_errors_of_arguments_are_final(error: AirflowTorchXError) -> None:
    """The error keeps its text and its class, is not retried, and survives pickling."""
    with pytest.raises(type(error)) as caught, checked_arguments():
        raise error

    final = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert isinstance(final, AirflowFailException)
    assert isinstance(final, type(error))
    assert (str(error), error.what, error.fix) == (str(final), final.what, final.fix)
    assert error is caught.value.__cause__


@pytest.mark.parametrize(
    "error",
    [EngineUnreachableError("it is down"), WorkspaceError("403"), LaunchError("a", "b", "c")],
)
def test_other_errors_stay(error: AirflowTorchXError) -> None:
    """An error that another try may not have is raised as it is."""
    with pytest.raises(type(error)) as caught, checked_arguments():
        raise error

    assert error is caught.value
    assert not isinstance(error, AirflowFailException)
