"""A Docker Engine in memory, to test DAGs and this package without Docker.

>>> from airflow_torchx.testing import FakeEngine, Program
>>> engine = FakeEngine(
...     images=["busybox"],
...     programs={"trainer": Program(lines=["epoch 1"]), "trainer/1": Program(exit_code=1)},
... )
>>> engine.find_image("busybox") is not None
True

The same contract tests run on it and on a real daemon.
"""

from __future__ import annotations

from airflow_torchx.testing.clock import ManualClock
from airflow_torchx.testing.fake_engine import FakeEngine
from airflow_torchx.testing.fake_swarm import FakeSwarm
from airflow_torchx.testing.faults import Verb
from airflow_torchx.testing.image_verbs import Builder
from airflow_torchx.testing.nodes import FakeNode
from airflow_torchx.testing.program import Behaviour, Program, Programs

__all__ = [
    "Behaviour",
    "Builder",
    "FakeEngine",
    "FakeNode",
    "FakeSwarm",
    "ManualClock",
    "Program",
    "Programs",
    "Verb",
]
