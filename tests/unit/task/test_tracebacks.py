"""Errors without causes and frames."""

from __future__ import annotations

import logging

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout
from structlog import tracebacks

from airflow_torchx.errors import EngineError, ImagePullError
from airflow_torchx.task.tracebacks import without_traceback


def connect() -> None:
    """Raise an error of the system."""
    raise OSError("no route")


def ask() -> None:
    """Raise an error of this package with a cause."""
    try:
        connect()
    except OSError as error:
        raise EngineError("no answer") from error


def pull() -> None:
    """Raise an error of this package with two causes."""
    try:
        ask()
    except EngineError as error:
        raise ImagePullError("cannot pull") from error


def stumble() -> None:
    """Raise an error that this package does not raise on purpose."""
    try:
        ask()
    except EngineError as error:
        raise KeyError("a bug") from error


def test_an_error_has_neither_causes_nor_frames(caplog: pytest.LogCaptureFixture) -> None:
    """Only the wrapper is left in the traceback; the whole of it is at debug level."""
    caplog.set_level(logging.DEBUG, "airflow_torchx.task.tracebacks")

    with pytest.raises(ImagePullError) as caught:
        without_traceback(pull)()

    (stack,) = tracebacks.extract(caught.type, caught.value, caught.tb).stacks
    assert ["called"] == [frame.name for frame in stack.frames[1:]]
    assert ["DEBUG"] == [record.levelname for record in caplog.records]
    for part in ("in pull", "in ask", "in connect", "OSError: no route", "EngineError: no answer"):
        assert part in caplog.text


def test_a_timeout_has_no_frames() -> None:
    """The error of a task that is out of time keeps only the frame of the wrapper."""

    def time_out() -> None:
        raise AirflowTaskTimeout("app 'a' CANCELLED")

    with pytest.raises(AirflowTaskTimeout) as caught:
        without_traceback(time_out)()

    (stack,) = tracebacks.extract(caught.type, caught.value, caught.tb).stacks
    assert ["called"] == [frame.name for frame in stack.frames[1:]]


def test_an_unexpected_error_keeps_its_traceback() -> None:
    """An error that is not one of this package keeps its causes and its frames."""
    with pytest.raises(KeyError) as caught:
        without_traceback(stumble)()

    bug, *causes = tracebacks.extract(caught.type, caught.value, caught.tb).stacks
    assert "stumble" == bug.frames[-1].name
    assert 2 == len(causes)
