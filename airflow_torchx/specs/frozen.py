"""Makes the lists and dicts of a spec read-only.

A spec copies them to tuples and ``FrozenDict``. The latter subclasses dict because
``MappingProxyType`` supports neither pickle, nor copy, nor ``json.dumps``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from airflow_torchx.errors import InvalidAppError, Problem

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


def freeze(value: Any) -> Any:  # noqa: ANN401 - any JSON-like value
    """Return ``value`` with read-only copies of all nested dicts and lists."""
    if isinstance(value, Mapping):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def freeze_fields(spec: object, *, lists: Iterable[str] = (), dicts: Iterable[str] = ()) -> None:
    """Replace fields of a frozen dataclass with read-only copies, from its ``__post_init__``.

    ``lists`` names the fields that hold a sequence, ``dicts`` those that hold a mapping.

    Raises:
        InvalidAppError: a field has another type; a string is not a list of strings.
    """
    for name in lists:
        value = getattr(spec, name)
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise _type_error(spec, name, value, "list")
        object.__setattr__(spec, name, tuple(freeze(item) for item in value))
    for name in dicts:
        value = getattr(spec, name)
        if not isinstance(value, Mapping):
            raise _type_error(spec, name, value, "dict")
        object.__setattr__(spec, name, freeze(value))


def _type_error(spec: object, name: str, value: object, kind: str) -> InvalidAppError:
    where = f"{type(spec).__name__}.{name}"
    # A malformed environment or command line may hold a secret, so print only its type.
    shown = "None" if value is None else type(value).__name__
    return InvalidAppError([Problem(where, f"expected a {kind}, got {shown}", f"pass a {kind}")])
