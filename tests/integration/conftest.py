"""Where a stub listens, and a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import require_docker
from tests.integration.registry import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.registry import Registry


@pytest.fixture
def address(tmp_path: Path) -> Path:
    """Return a place for a socket."""
    return tmp_path / "docker.sock"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Return a registry that asks for a login; what is pushed to it lives as long as the module."""
    require_docker().close()
    with serving(tmp_path_factory.mktemp("registry")) as running:
        yield running
