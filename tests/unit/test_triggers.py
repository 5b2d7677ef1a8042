"""The trigger on a fake daemon."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_torchx.errors import EngineError
from airflow_torchx.runtime import launching
from airflow_torchx.runtime.watch import Watches
from airflow_torchx.testing import FakeEngine, Program
from airflow_torchx.triggers import TorchXDockerTrigger
from tests.unit.apps import app, planned

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    import pytest

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.watch import Watch


class OfOne(Watches):
    """Watches of one daemon, wherever a connection leads."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(linger_s=0)
        self._engine = engine

    @contextmanager
    def on(self, key: Hashable, connect: Callable[[], Engine]) -> Iterator[Watch]:  # noqa: ARG002
        """Use the watch on the daemon."""
        with super().on("the only", lambda: self._engine) as watch:
            yield watch


def test_an_app_that_cannot_be_shown_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of replicas is only for the log: without it, the containers are removed, too."""
    monkeypatch.setenv("AIRFLOW_CONN_D", json.dumps({"conn_type": "torchx_docker"}))
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launching.launch(engine, planned(app(1), stop_grace_s=0))
    engine.fail_next("inspect", EngineError("a bad answer"))
    trigger = TorchXDockerTrigger(
        app_id="app-1", torchx_conn_id="d", owned=True, delete_on_finish=True
    )
    trigger.watches = OfOne(engine)
    trigger.evidence = lambda: ("failed", "app-1")

    asyncio.run(trigger.on_kill())

    assert {} == engine.specs()
