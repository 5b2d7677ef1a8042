"""The daemons that the page's routes read from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.errors import InvalidAppError
from airflow_torchx.testing import FakeEngine, ManualClock
from airflow_torchx.ui.daemons import REQUEST_S, Daemons, endpoint_of
from airflow_torchx.ui.single_flight import SingleFlight

if TYPE_CHECKING:
    from airflow_torchx.core.engine.protocol import Engine


def test_a_connection_of_another_type_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handle can name any connection, and opens only daemons."""
    monkeypatch.setenv("AIRFLOW_CONN_DATABASE", "postgres://u:p@db/x")

    with pytest.raises(InvalidAppError, match="its type is 'postgres'"):
        endpoint_of("database")


def test_a_request_to_a_daemon_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread waits for a daemon that hangs no longer than a reader of the page."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_GPU_HOST", '{"conn_type": "torchx_docker", "host": "unix:///d"}'
    )
    quick = '{"conn_type": "torchx_docker", "host": "unix:///d", "extra": {"request_timeout_s": 2}}'
    monkeypatch.setenv("AIRFLOW_CONN_QUICK", quick)

    assert ("unix:///d", REQUEST_S) == (
        endpoint_of("gpu_host").url,
        endpoint_of("gpu_host").request_timeout_s,
    )
    assert 2 == endpoint_of("quick").request_timeout_s


def test_a_changed_connection_counts_at_once() -> None:
    """The next request goes to the new daemon; the old one is closed when it has been idle."""
    urls, clock = {"gpu_host": "tcp://old:2375"}, ManualClock()
    engines: dict[str, FakeEngine] = {}

    def connect(endpoint: Endpoint) -> Engine:
        return engines.setdefault(str(endpoint.url), FakeEngine())

    daemons = Daemons(lambda conn_id: Endpoint(url=urls[str(conn_id)]), connect, clock)

    async def ask() -> list[str]:
        found = []
        for url in ("tcp://old:2375", "tcp://old:2375", "tcp://new:2375"):
            urls["gpu_host"] = url
            daemon = await daemons.of("gpu_host")
            await daemon.call(lambda engine: engine.rows({}))
            found.append(url)
            clock.advance(500)
        clock.advance(500)
        await daemons.of("gpu_host")
        daemons.close()
        return found

    asyncio.run(ask())

    assert ["rows", "rows"] == engines["tcp://old:2375"].calls
    assert ["rows"] == engines["tcp://new:2375"].calls
    assert [True, True] == [engine.closed for engine in engines.values()]


def test_an_answer_is_shared_and_kept_for_a_time() -> None:
    """Errors are shared, too; a reader who leaves does not end the question of the others."""
    clock, asked = ManualClock(), []

    async def ask() -> int:
        asked.append(clock())
        await asyncio.sleep(0)
        if len(asked) == 2:
            raise InvalidAppError([], subject="x")
        return len(asked)

    async def read() -> list[object]:
        flights = SingleFlight(2.0, clock)
        leaving = asyncio.create_task(flights.get("key", ask))
        await asyncio.sleep(0)
        leaving.cancel()
        found: list[object] = [await flights.get("key", ask), await flights.get("other", _three)]
        clock.advance(1.9)
        found.append(await flights.get("key", ask))
        clock.advance(0.1)
        both = [flights.get("key", ask), flights.get("key", ask)]
        found += map(type, await asyncio.gather(*both, return_exceptions=True))
        clock.advance(2)
        found.append(await flights.get("key", ask))
        return found

    assert [1, 3, 1, InvalidAppError, InvalidAppError, 3] == asyncio.run(read())


async def _three() -> int:
    return 3
