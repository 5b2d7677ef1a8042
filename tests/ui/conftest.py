"""A browser, and a small server that plays Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ui.browser import browser, screen
from tests.ui.played_airflow import PlayedAirflow

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["browser", "screen"]


@pytest.fixture
def airflow() -> Iterator[PlayedAirflow]:
    """Return a server that plays Airflow."""
    with PlayedAirflow() as played:
        yield played
