"""The fixture for the contract tests of the Engine protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import BUSYBOX
from tests.contract.bench import Bench

if TYPE_CHECKING:
    from airflow_torchx.core.engine.protocol import Engine


@pytest.fixture
def bench(engine: Engine, app_id: str) -> Bench:
    """Return a bench, once on the fake and once on a real daemon."""
    return Bench(engine, app_id, BUSYBOX)
