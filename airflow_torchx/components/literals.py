"""Parses values of TorchX's command line by the annotation of their parameter."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from airflow_torchx.core.plan.option_text import split_dict

_SCALARS: Final[dict[type, str]] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
}
#: Number of type arguments, and the description.
_CONTAINERS: Final[dict[object, tuple[int, str]]] = {
    list: (1, "a list like a,b"),
    dict: (2, "a dict like A=1,B=2"),
}


class UnsupportedTypeError(TypeError):
    """The type of a parameter cannot be expressed as text."""


def plain_type(annotation: object) -> Any:  # noqa: ANN401 - annotations are any object
    """Return an annotation without ``Annotated`` and without ``| None``."""
    if get_origin(annotation) is Annotated:
        return plain_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        inner = [arg for arg in get_args(annotation) if arg is not NoneType]
        if len(inner) == 1:
            return plain_type(inner[0])
    return annotation


def describe(annotation: object) -> str:
    """Return a description of the text that a parameter accepts.

    Raises:
        UnsupportedTypeError: the type cannot be expressed as text.
    """
    kind = plain_type(annotation)
    origin, items = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and kind in _SCALARS:
        return _SCALARS[kind]
    count, description = _CONTAINERS.get(origin, (0, ""))
    if description and len(items) == count and all(item in (str, int, float) for item in items):
        return description
    raise UnsupportedTypeError(str(annotation))


def read_literal(text: str, annotation: object) -> Any:  # noqa: ANN401 - of the annotated type
    """Return ``text`` as a value of the annotated type.

    An empty list or dict is None, as in TorchX.

    Raises:
        ValueError: the text is not a value of that type.
        UnsupportedTypeError: the type cannot be expressed as text.
    """
    describe(annotation)
    kind = plain_type(annotation)
    origin, items = get_origin(kind), get_args(kind)
    if kind is bool:
        # TorchX reads any other text as False, even `--debug yes`.
        if text.lower() not in ("true", "false"):
            what = f"neither True nor False: {text}"
            raise ValueError(what)
        return text.lower() == "true"
    if origin is list:
        return [items[0](item) for item in split_list(text)] if text else None
    if origin is dict:
        pairs = split_dict(text).items()
        return {items[0](key): items[1](value) for key, value in pairs} or None
    return kind(text)


def split_list(text: str) -> list[str]:
    """Return the items of ``a, b``; an empty list for blank text."""
    return [item.strip() for item in text.split(",")] if text.strip() else []
