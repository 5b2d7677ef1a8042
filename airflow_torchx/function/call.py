"""A call of a function in a container: its arguments, as environment variables."""

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

#: Start of the names of the environment variables that hold a call; a number follows, from 0.
CALL_ENV: Final = "AIRFLOW_TORCHX_CALL_"
#: The most that a call may be, in characters of JSON: Linux takes 2 MiB of arguments and
#: environment together (execve(2): a quarter of the stack, which has 8 MiB) ...
MAX_CALL_CHARS: Final = 1 << 20
# ... and 128 KiB of each, its name included.
_MAX_VALUE_CHARS: Final = 120_000


@dataclass(frozen=True, slots=True)
class Call:
    """What a function is called with, in the types that JSON has.

    Args:
        arguments: parameter to argument.
        args: what is given by position.
        kwargs: what is given by name.
    """

    arguments: Mapping[str, Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    @classmethod
    def of(
        cls, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Call:
        """Return the call of a function with these arguments; sequences become lists.

        Raises:
            FunctionError: JSON cannot hold an argument, and which.
            TypeError: the function does not take these arguments.
        """
        bound = inspect.signature(function).bind(*args, **kwargs)
        try:
            for name, value in bound.arguments.items():
                bound.arguments[name] = _plain(value, name)
        except _NotJsonError as why:
            what = f"argument {why.where} of {function.__name__}() is {why.what}, and no JSON."
            fix = "Give numbers, texts, lists and dicts, like a date as its isoformat()."
            raise FunctionError(what, fix=fix) from None
        return cls(bound.arguments, bound.args, bound.kwargs)

    def env(self, source: FunctionSource, *, file: str, result_path: str | None) -> dict[str, str]:
        """Return the environment variables that tell a container what to call.

        Args:
            source: the function.
            file: what tracebacks call its file.
            result_path: file in the container for what it returns; None for nowhere.

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
        # Only texts can hold a dollar, and in a role's environment it begins a macro.
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
            f"the arguments of {function}() are {chars >> 10} KiB as JSON, and can be "
            f"{MAX_CALL_CHARS >> 10} KiB at most; the largest is {largest}, "
            f"{sizes[largest] >> 10} KiB."
        )
        fix = "Put it into a storage that the container can read, and give the address."
        return FunctionError(what, fix=fix)


class _NotJsonError(Exception):
    """JSON has no such value; ``where`` is its path, and ``what`` is what it is."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(where, what)
        self.where = where
        self.what = what


def _plain(value: object, where: str) -> Any:  # noqa: ANN401 - any JSON
    """Return a value in the types that JSON has."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, float):
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
