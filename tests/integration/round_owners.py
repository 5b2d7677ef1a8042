"""Processes that wait for apps that are restarted, and that are killed at some request.

Usage: python -m tests.integration.round_owners SCENE, a `Scene` as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from typing import Any, Final, cast

from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime import waiting

#: More than an owner makes until the second round has started.
MAX_CALLS: Final = 40


@dataclass(frozen=True)
class Scene:
    """The owners of one app: how many are killed, and how many there are at a time."""

    app_id: str
    seed: str
    kills: int
    at_once: int


class Killable:
    """An engine whose process is killed before or after a call."""

    def __init__(self, engine: DockerEngine, call: int, *, after: bool) -> None:
        self._engine = engine
        self._left = call
        self._after = after
        self._counting = threading.Lock()

    def __getattr__(self, verb: str) -> Any:  # noqa: ANN401 - any call of an engine
        call = getattr(self._engine, verb)

        def counted(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - its arguments
            with self._counting:
                self._left -= 1
                is_last = self._left == 0
            if is_last and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **options)
            if is_last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted


def own(app_id: str, call: int, *, after: bool) -> None:
    """Wait for an app to its end, as a task does; call 0 kills nothing."""
    with DockerEngine.connect() as engine:
        watched = cast("DockerEngine", Killable(engine, call, after=after)) if call else engine
        waiting.wait(watched, app_id)


def forked(app_id: str, call: int, *, after: bool) -> int:
    """Start an owner, and return its process."""
    if process := os.fork():
        return process
    code = 1
    try:
        own(app_id, call, after=after)
        code = 0
    except EngineError:
        traceback.print_exc()
    finally:
        os._exit(code)


def play(scene: Scene) -> bool:
    """Let owners wait for the app until it has ended; return whether all but the killed did."""
    draw = random.Random(scene.seed)  # noqa: S311 - a seed of a test
    kills, is_well = scene.kills, True
    running = set[int]()
    while True:
        while len(running) < scene.at_once:
            call = draw.randint(1, MAX_CALLS) if kills > 0 else 0
            kills -= 1
            running.add(forked(scene.app_id, call, after=draw.random() < 0.5))
        process, status = os.waitpid(-1, 0)
        running.discard(process)
        if os.WIFSIGNALED(status):
            continue
        is_well = is_well and status == 0
        break
    for process in running:
        _, status = os.waitpid(process, 0)
        is_well = is_well and (os.WIFSIGNALED(status) or status == 0)
    return is_well


if __name__ == "__main__":
    sys.exit(not play(Scene(**json.loads(sys.argv[1]))))
