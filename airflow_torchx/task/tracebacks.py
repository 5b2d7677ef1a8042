"""Errors as the task log shows them: one message, without causes and frames of this package."""

from __future__ import annotations

import functools
import logging
import traceback
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout

from airflow_torchx.airflow_compat import mask_log, masked
from airflow_torchx.errors import AirflowTorchXError

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")


def without_traceback(call: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let a method that Airflow calls raise an error of ours without its causes and its frames.

    Airflow logs each cause with its own traceback. The message of such an error says everything, so
    the rest is logged at debug level. Any other error keeps its traceback. Secrets are masked in
    the message, and in what this package logs.
    """

    @functools.wraps(call)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        mask_log()
        try:
            return call(*args, **kwargs)
        except (AirflowTorchXError, AirflowFailException, AirflowTaskTimeout) as error:
            expected: BaseException = error
        # As text, which `mask_log` masks.
        _log.debug("the following error:\n%s", "".join(traceback.format_exception(expected)))
        expected.args = tuple(masked(one) if isinstance(one, str) else one for one in expected.args)
        raise expected.with_traceback(None) from None

    return called
