"""Read-only containers for specs.

Specs take the lists and dicts that TorchX users write and keep copies: tuples and ``FrozenDict``.
A subclass of dict, and not ``MappingProxyType``, because that one neither pickles, nor copies, nor
goes through ``json.dumps``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from airflow_torchx.errors import InvalidAppError, Problem

K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V]):
    """A dict that is complete once it is made; ``{**frozen, "more": 1}`` is an editable copy.

    Raises:
        TypeError: from every method that would change it.
    """

    __slots__ = ()

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        what = "this dict is read-only: change a copy, as in {**frozen, key: value}"
        raise TypeError(what)

    __setitem__ = _refuse
    __delitem__ = _refuse
    __ior__ = _refuse
    clear = _refuse
    pop = _refuse
    popitem = _refuse
    setdefault = _refuse
    update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (dict(self),))


def freeze(value: Any) -> Any:  # noqa: ANN401 - any JSON-like value, whatever the user nested
    """Return ``value`` with every dict and list in it replaced by a read-only copy."""
    if isinstance(value, Mapping):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def freeze_fields(spec: object, *, lists: Iterable[str] = (), dicts: Iterable[str] = ()) -> None:
    """Replace fields of a frozen dataclass by read-only copies; for its ``__post_init__``.

    Args:
        spec: the dataclass instance, just made.
        lists: names of the fields that hold a sequence.
        dicts: names of the fields that hold a mapping.

    Raises:
        InvalidAppError: a field holds something else; a string is no list of strings.
    """
    for name in lists:
        value = getattr(spec, name)
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise _wrong(spec, name, value, "list")
        object.__setattr__(spec, name, tuple(freeze(item) for item in value))
    for name in dicts:
        value = getattr(spec, name)
        if not isinstance(value, Mapping):
            raise _wrong(spec, name, value, "dict")
        object.__setattr__(spec, name, freeze(value))


def _wrong(spec: object, name: str, value: object, kind: str) -> InvalidAppError:
    where = f"{type(spec).__name__}.{name}"
    # What should have been an environment, or a command line, may hold a secret.
    shown = "None" if value is None else type(value).__name__
    return InvalidAppError([Problem(where, f"expected a {kind}, got {shown}", f"give a {kind}")])
