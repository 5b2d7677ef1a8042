"""The phases of a launch, as an observer of this thread sees them."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from airflow_torchx.core.task.metrics import Phase


class Observer(Protocol):
    """Sees when phases begin and end, also in several threads at once. It must not raise."""

    def phase(
        self, name: Phase, *, image: str = "", gpus: int = 0
    ) -> AbstractContextManager[object]:
        """Return a context for a phase; ``image`` is that of a build, push or pull."""
        ...


# Not an argument: it would pass through each function between a task and a pull. The threads that
# pull or build have the caller's context.
_OBSERVER: ContextVar[Observer | None] = ContextVar("airflow_torchx_phases", default=None)


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Let an observer see the phases of the block."""
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


def phase(name: Phase, *, image: str = "", gpus: int = 0) -> AbstractContextManager[object]:
    """Return the context of a phase; without an observer it does nothing."""
    observer = _OBSERVER.get()
    return nullcontext() if observer is None else observer.phase(name, image=image, gpus=gpus)
