"""The same blocking call for many things at once, and nothing half-done when it is interrupted."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: Creating 64 containers on 2 cores: 4 threads or more take the same time, 1 takes 1.6 times that.
DEFAULT_THREADS: Final = 8
# Between two looks at should_stop.
_TICK_S: Final = 0.1


class StopRequested(Exception):  # noqa: N818 - it stops the work, it is no error of it
    """``should_stop`` said so before every call was made."""


def map_concurrently(
    call: Callable[[_Item], _Result],
    items: Collection[_Item],
    *,
    threads: int = DEFAULT_THREADS,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[_Result]:
    """Call ``call`` for every item, several at a time, and return the results in their order.

    After the first failure, or when the waiting thread is interrupted, no further call begins, and
    those that run are waited for: when this function is left, nothing of it goes on.

    Raises:
        Exception: the first failure, as it is.
        StopRequested: ``should_stop`` returned True; it is asked ten times a second.
    """
    if not items:
        return []
    with ThreadPoolExecutor(min(threads, len(items)), "torchx") as pool:
        futures = [pool.submit(call, item) for item in items]
        try:
            _wait(futures, should_stop)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _wait(futures: list[Future[_Result]], should_stop: Callable[[], bool]) -> None:
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_TICK_S, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        if pending and should_stop():
            raise StopRequested
