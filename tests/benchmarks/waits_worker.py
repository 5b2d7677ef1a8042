"""Waits for apps as a triggerer does, and measures what that takes.

Usage: waits_worker.py PACKAGE WATCHED_S
Reads app ids from stdin, a line each, up to an empty one. Prints one JSON object when all wait and
were watched so long without an end, and another one with the time of each event, on the monotonic
clock, when stdin ends.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from airflow_torchx.triggers import TorchXDockerTrigger

#: The connection of a swarm; None for the daemon of the docker command line.
CONNECTION: Final = "torchx_swarm" if "AIRFLOW_CONN_TORCHX_SWARM" in os.environ else None
#: For all to have begun, and looked.
_BEGIN_S: Final = 15.0


def resident_kb() -> int:
    """Return the memory of this process."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


async def wait(app_id: str, fired: dict[str, float]) -> None:
    """Run one trigger to its event."""
    trigger = TorchXDockerTrigger(app_id=app_id, owned=True, torchx_conn_id=CONNECTION)
    # It has no task. Airflow would log an error for each, to where the answers go.
    trigger.evidence = lambda: ("running", app_id)
    async for event in trigger.run():
        fired[event.payload["app_id"]] = time.monotonic()
    await trigger.cleanup()


async def measure(app_ids: list[str], watched_s: float) -> None:
    """Wait for all."""
    fired: dict[str, float] = {}
    # What the first one loads is the triggerer's, not a trigger's.
    first = asyncio.create_task(wait(app_ids[0], fired))
    await asyncio.sleep(5)
    before_kb = resident_kb()
    waiting = [first, *(asyncio.create_task(wait(one, fired)) for one in app_ids[1:])]
    await asyncio.sleep(_BEGIN_S)
    after_kb, spent_s = resident_kb(), time.process_time()
    await asyncio.sleep(watched_s)
    tell(
        kb_each=(after_kb - before_kb) / (len(app_ids) - 1),
        cores=(time.process_time() - spent_s) / watched_s,
        waiting=sum(not task.done() for task in waiting),
    )
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    tell(fired=fired)


def tell(**answer: Any) -> None:  # noqa: ANN401 - any JSON
    """Print an answer."""
    print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    # Why an app waits for room, for each app, would go to where the answers go.
    logging.disable(logging.INFO)
    names = [line.strip() for line in iter(sys.stdin.readline, "\n")]
    asyncio.run(measure(names, float(sys.argv[2])))
