"""Makes the lists and dicts of a spec read-only.

A spec copies them to ``FrozenList`` and ``FrozenDict``. These subclass list and dict, so that they
compare, print, pickle and serialize like TorchX's.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final, NoReturn, TypeVar

from airflow_torchx.errors import InvalidAppError, Problem
from airflow_torchx.specs.scalars import BYTES, as_number, plain

K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V]):
    """Rejects changes after construction; ``{**frozen, "more": 1}`` is an editable copy.

    Raises:
        TypeError: a method would change the dict.
    """

    __slots__ = ()

    def _reject(self, *_args: object, **_kwargs: object) -> NoReturn:
        what = "this dict is read-only; change a copy instead: {**frozen, key: value}"
        raise TypeError(what)

    __setitem__ = _reject
    __delitem__ = _reject
    __ior__ = _reject
    clear = _reject
    pop = _reject
    popitem = _reject
    setdefault = _reject
    update = _reject

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (dict(self),))


class FrozenList(list[V]):
    """Rejects changes after construction; ``[*frozen, item]`` is an editable copy.

    It has a hash, and equals a tuple with the same items.

    Raises:
        TypeError: a method would change the list.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return list.__eq__(self, [*other] if isinstance(other, tuple) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:  # type: ignore[override] # a list has none
        return hash(tuple(self))

    def __iadd__(self, other: Any) -> Any:  # type: ignore[misc] # noqa: ANN401 - a new list
        return [*self, *other]

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), ([*self],))

    def _reject(self, *_args: object, **_kwargs: object) -> NoReturn:
        what = "this list is read-only; change a copy instead: [*frozen, item]"
        raise TypeError(what)

    __setitem__ = _reject
    __delitem__ = _reject
    __imul__ = list.__mul__  # type: ignore[assignment] # a new list
    append = _reject
    clear = _reject
    extend = _reject
    insert = _reject
    pop = _reject
    remove = _reject
    reverse = _reject
    sort = _reject


def freeze(value: Any) -> Any:  # noqa: ANN401 - any JSON-like value
    """Return ``value`` with read-only copies of all nested dicts and lists.

    A member of an enumeration of texts or numbers becomes its value.
    """
    if isinstance(value, Mapping):
        return FrozenDict({_value(key): freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return FrozenList(freeze(item) for item in value)
    return _value(value)


def _value(value: object) -> object:
    return plain(value) if isinstance(value, Enum) else value


def freeze_fields(spec: object, *, lists: Iterable[str] = (), dicts: Iterable[str] = ()) -> None:
    """Replace fields of a frozen dataclass with read-only copies, from its ``__post_init__``.

    ``lists`` names the fields that hold a sequence, ``dicts`` those that hold a mapping. In the
    fields of texts and numbers, a member of an enumeration becomes its value, and a number of any
    type one of Python's.

    Raises:
        InvalidAppError: fields have another type; a string is not a list of strings.
    """
    for field in dataclasses.fields(spec):  # type: ignore[arg-type] # a dataclass
        value, kind = getattr(spec, field.name), str(field.type).partition(" ")[0]
        if kind in _SCALARS:
            object.__setattr__(spec, field.name, _scalar(kind, value))
    problems = []
    for kind, names in (("list", lists), ("dict", dicts)):
        for name in names:
            value = getattr(spec, name)
            if _is_a(kind, value):
                object.__setattr__(spec, name, freeze(value if kind == "dict" else [*value]))
            else:
                problems.append(_problem(spec, name, value, kind))
    if problems:
        subject = type(spec).__name__
        if name := getattr(spec, "name", ""):
            subject = f"{'app' if subject == 'AppDef' else subject.lower()} {name!r}"
        raise InvalidAppError(problems, subject=subject)


_SCALARS: Final = ("str", "int", "float")


def _scalar(kind: str, value: object) -> object:
    if kind == "str" or isinstance(value, str | int | float):
        return _value(value)
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        return as_number(value)
    return value


def _is_a(kind: str, value: object) -> bool:
    if kind == "dict":
        return isinstance(value, Mapping)
    return isinstance(value, Iterable) and not isinstance(value, (str, Mapping, *BYTES))


def _problem(spec: object, name: str, value: object, kind: str) -> Problem:
    # A malformed environment or command line may hold a secret, so print only its type.
    shown = "None" if value is None else type(value).__name__
    where = f"{type(spec).__name__}.{name}"
    return Problem(where, f"expected a {kind}, got {shown}", f"pass a {kind}")
