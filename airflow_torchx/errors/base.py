"""The base of all errors."""

from __future__ import annotations

from functools import partial
from typing import Any, Self


class AirflowTorchXError(Exception):
    """The base class of every exception that this package raises on purpose.

    Args:
        what: what happened, in one or two sentences.
        fix: what the user can do; the last line of the message.
    """

    _init_args: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:  # noqa: ANN401 - whatever __init__ takes
        """Keep the arguments, so that every subclass can be pickled."""
        self = super().__new__(cls, *args)
        self._init_args = (args, kwargs)
        return self

    def __init__(self, what: str, *, fix: str = "") -> None:
        text = f"{what}\n{fix}" if fix else what
        super().__init__(text)
        # OSError, a base of WaitTimeoutError, sets its args in __new__ only.
        self.args = (text,)
        self.what = what
        self.fix = fix

    def __reduce__(self) -> tuple[Any, ...]:
        args, kwargs = self._init_args
        return (partial(type(self), *args, **kwargs), ())
