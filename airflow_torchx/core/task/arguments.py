"""Parsers of operator arguments; cheap to import, because DAG files import it."""

from __future__ import annotations

import math
import posixpath
import re
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_torchx.errors import UsageError
from airflow_torchx.specs.scalars import BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_torchx.specs import AnyApp


class _Choice(StrEnum):
    """An argument that accepts a few words."""

    @classmethod
    def parse(cls, word: str) -> Self:
        """Return the member with this value, or raise ValueError with the known values."""
        try:
            return cls(word)
        except ValueError:
            choices = ", ".join(cls)
            name = _ARGUMENTS[cls.__name__]
            raise ValueError(f"{name}={word!r} is not accepted; choose from {choices}") from None


_ARGUMENTS = {"OnFinish": "on_finish", "OnWorkerShutdown": "on_worker_shutdown"}


class OnFinish(_Choice):
    """What happens to an app's containers when the task ends."""

    DELETE = "delete"
    KEEP = "keep"
    KEEP_FAILED = "keep_failed"


class OnWorkerShutdown(_Choice):
    """What happens to a running app when the worker of its task shuts down."""

    DEFER = "defer"
    KEEP = "keep"
    STOP = "stop"


def exit_codes(argument: str, given: int | Sequence[int]) -> frozenset[int]:
    """Return the exit codes in an argument, or raise ValueError if one is not of a failure."""
    codes = [given] if isinstance(given, int) else list(given)
    for code in codes:
        if (
            isinstance(given, BYTES)
            or not isinstance(code, int)
            or isinstance(code, bool)
            or not 0 < code <= _MAX_CODE
        ):
            raise ValueError(f"{argument}={given!r}: give exit codes from 1 to {_MAX_CODE}")
    return frozenset(codes)


_MAX_CODE: Final = 255


def exactly_one(**given: object) -> None:
    """Raise ValueError unless one of two arguments is set."""
    count = sum(value is not None for value in given.values())
    if count != 1:
        names = " and ".join(f"{name}=" for name in given)
        raise ValueError(f"give exactly one of {names}, got {'both' if count else 'neither'}")


def check_conflicts(
    *, wait_for_completion: bool, durable: bool, on_worker_shutdown: str, **at_end: object
) -> None:
    """Raise ValueError if an argument takes away what another one needs.

    ``at_end`` are arguments that are used when the app ends.
    """
    given = [name for name, value in at_end.items() if value is not None and value not in ((), [])]
    if given and not wait_for_completion:
        raise ValueError(f"{given[0]} needs wait_for_completion=True: it is used when the app ends")
    if on_worker_shutdown == OnWorkerShutdown.KEEP and not durable:
        raise ValueError("on_worker_shutdown='keep' needs durable=True, or no try uses the app")


def ids_of(given: str | Sequence[str]) -> Sequence[str]:
    """Return the ids in an argument, which may be one string."""
    return [given] if isinstance(given, str) else given


def check_result_path(path: object, *, is_rendered: bool = True) -> None:
    """Raise UsageError unless this is the path of a file, None, or a template to be rendered."""
    is_template = path.startswith("{") if isinstance(path, str) else hasattr(path, "resolve")
    if path is None or (is_template and not is_rendered):
        return
    is_text = isinstance(path, str) and _PATH.fullmatch(path)
    if not is_text or posixpath.basename(str(path)) in ("", ".", ".."):
        raise UsageError(f"result_path={path!r}: give the absolute path of a file")


#: Not a zero byte, and nothing that UTF-8 cannot encode.
_PATH: Final = re.compile("/[^\0\ud800-\udfff]*")


def positive(argument: str, given: float | timedelta) -> float:
    """Return a number or the seconds of a timedelta, or raise ValueError if it is not above 0."""
    number = given.total_seconds() if isinstance(given, timedelta) else given
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not is_number or not (math.isfinite(number) and number > 0):
        raise ValueError(f"{argument}={given!r}: give a number above 0")
    return float(number)


def app_template(app: AnyApp | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an app as a mapping, in which Airflow renders templates."""
    from airflow_torchx.specs.accept import as_template

    templates: Mapping[str, Any] = as_template(app)
    return templates


def with_own_options(
    options: Mapping[str, Any] | None, own: Mapping[str, object]
) -> Mapping[str, Any] | None:
    """Return run options with those that are arguments of their own, of which None is not set."""
    given = {name: value for name, value in own.items() if value is not None}
    return {**(options or {}), **given} if given else options
