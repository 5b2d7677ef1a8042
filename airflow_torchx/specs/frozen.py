"""Makes the lists and dicts of a spec read-only.

A spec copies them to ``FrozenList`` and ``FrozenDict``. The latter subclasses dict because
``MappingProxyType`` supports neither pickle, nor copy, nor ``json.dumps``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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


def _comparison(of_tuples: Callable[[Any, Any], Any]) -> Callable[[Any, object], Any]:
    """Return a comparison of tuples that also compares with a list."""
    return lambda own, other: of_tuples(own, tuple(other) if isinstance(other, list) else other)


class FrozenList(tuple[V, ...]):
    """Rejects changes after construction, but compares, prints and adds like a list, as in TorchX.

    ``[*frozen, item]`` and ``frozen + [item]`` are editable copies.

    Raises:
        TypeError: a method would change the list.
    """

    __slots__ = ()

    __eq__ = _comparison(tuple.__eq__)
    __ne__ = _comparison(tuple.__ne__)
    __lt__ = _comparison(tuple.__lt__)
    __le__ = _comparison(tuple.__le__)
    __gt__ = _comparison(tuple.__gt__)
    __ge__ = _comparison(tuple.__ge__)
    __hash__ = tuple.__hash__

    def __repr__(self) -> str:
        return repr([*self])

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - an item or a slice
        found = tuple.__getitem__(self, index)
        return FrozenList(found) if isinstance(index, slice) else found

    def __add__(self, other: Any) -> Any:  # noqa: ANN401 - a list for a list, else a tuple
        is_list = isinstance(other, list | FrozenList)
        return [*self, *other] if is_list else tuple.__add__(self, other)

    def __iadd__(self, other: Any) -> Any:  # noqa: ANN401 - see __add__
        return [*self, *other]

    def __radd__(self, other: Any) -> Any:  # noqa: ANN401 - see __add__
        return [*other, *self] if isinstance(other, list) else NotImplemented

    def __mul__(self, count: Any) -> Any:  # noqa: ANN401 - see __add__
        return [*self] * count

    __rmul__ = __mul__

    def copy(self) -> list[V]:
        """Return an editable copy."""
        return [*self]

    def _reject(self, *_args: object, **_kwargs: object) -> NoReturn:
        what = "this list is read-only; change a copy instead: [*frozen, item]"
        raise TypeError(what)

    __setitem__ = _reject
    __delitem__ = _reject
    append = _reject
    clear = _reject
    extend = _reject
    insert = _reject
    pop = _reject
    remove = _reject
    reverse = _reject
    sort = _reject


def freeze(value: Any) -> Any:  # noqa: ANN401 - any JSON-like value
    """Return ``value`` with read-only copies of all nested dicts and lists."""
    if isinstance(value, Mapping):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return FrozenList(freeze(item) for item in value)
    return value


def freeze_fields(spec: object, *, lists: Iterable[str] = (), dicts: Iterable[str] = ()) -> None:
    """Replace fields of a frozen dataclass with read-only copies, from its ``__post_init__``.

    ``lists`` names the fields that hold a sequence, ``dicts`` those that hold a mapping.

    Raises:
        InvalidAppError: fields have another type; a string is not a list of strings.
    """
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


def _is_a(kind: str, value: object) -> bool:
    if kind == "dict":
        return isinstance(value, Mapping)
    return isinstance(value, Iterable) and not isinstance(value, str | Mapping)


def _problem(spec: object, name: str, value: object, kind: str) -> Problem:
    # A malformed environment or command line may hold a secret, so print only its type.
    shown = "None" if value is None else type(value).__name__
    where = f"{type(spec).__name__}.{name}"
    return Problem(where, f"expected a {kind}, got {shown}", f"pass a {kind}")
