"""Where a stub listens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def address(tmp_path: Path) -> Path:
    """Return a place for a socket."""
    return tmp_path / "docker.sock"
