"""Passes a function's arguments to a container in environment variables."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.errors import FunctionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.function.source import FunctionSource

#: Prefix of the environment variables that hold a call; a number follows, from 0.
CALL_ENV: Final = "AIRFLOW_TORCHX_CALL_"
#: Limit of a call, in characters of JSON. Linux allows 2 MiB for arguments and environment
#: together (execve(2): a quarter of the 8 MiB stack).
MAX_CALL_CHARS: Final = 1 << 20
# Linux allows 128 KiB per variable, including its name.
_MAX_VALUE_CHARS: Final = 120_000


@dataclass(frozen=True, slots=True)
class Call:
    """Holds the arguments of a function call as JSON values."""

    #: Argument by parameter name, whether it is passed by position or by keyword.
    arguments: Mapping[str, Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    @classmethod
    def of(
        cls, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Call:
        """Return the call of a function with these arguments; sequences become lists.

        Raises:
            FunctionError: an argument is not JSON.
            TypeError: the arguments do not match the function's signature.
        """
        bound = inspect.signature(function).bind(*args, **kwargs)
        try:
            for name, value in bound.arguments.items():
                bound.arguments[name] = _plain(value, name)
        except _NotJsonError as error:
            where, kind = error.args
            what = f"argument {where} of {function.__name__}() is {kind}, not JSON"
            fix = "Pass numbers, strings, lists and dicts; for a date, its isoformat()."
            raise FunctionError(what, fix=fix) from None
        return cls(bound.arguments, bound.args, bound.kwargs)

    def env(self, source: FunctionSource, *, file: str, result_path: str | None) -> dict[str, str]:
        """Return the call as environment variables for the container.

        Tracebacks show ``file``. The container writes the return value to ``result_path``; None
        discards it.

        Raises:
            FunctionError: the arguments are too large.
        """
        call = {
            "function": source.name,
            "file": file,
            "line": source.line,
            "lazy_annotations": source.lazy_annotations,
            "result_path": result_path,
            "args": self.args,
            "kwargs": self.kwargs,
        }
        # In a role's environment a dollar starts a macro. In JSON only strings can contain one.
        text = json.dumps(call).replace("$", "\\u0024")
        if len(text) > MAX_CALL_CHARS:
            raise self._too_large(source.name, len(text))
        starts = range(0, len(text), _MAX_VALUE_CHARS)
        return {
            f"{CALL_ENV}{number}": text[start : start + _MAX_VALUE_CHARS]
            for number, start in enumerate(starts)
        }

    def _too_large(self, function: str, chars: int) -> FunctionError:
        sizes = {name: len(json.dumps(value)) for name, value in self.arguments.items()}
        largest = max(sizes, key=lambda name: sizes[name])
        what = (
            f"the arguments of {function}() are {chars >> 10} KiB as JSON, more than "
            f"{MAX_CALL_CHARS >> 10} KiB; the largest is {largest}, {sizes[largest] >> 10} KiB"
        )
        fix = "Store it where the container can read it, and pass its path or URL."
        return FunctionError(what, fix=fix)


class _NotJsonError(Exception):
    """A value is not JSON; the arguments are its path and its description."""


def _plain(value: object, where: str) -> Any:  # noqa: ANN401 - any JSON
    """Return a value with sequences as lists and mappings as dicts."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise _NotJsonError(where, f"{value}")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise _NotJsonError(where, f"a mapping with the key {key!r}")
        return {key: _plain(value[key], f"{where}[{key!r}]") for key in value}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    kind = type(value)
    raise _NotJsonError(where, f"a {kind.__module__}.{kind.__qualname__}")
