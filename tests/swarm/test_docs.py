"""What the pages tell people to type on a manager works on a swarm of three nodes.

These are all shell blocks with the name of the scheduler. A block that makes a swarm, or changes a
node, needs a test of its own with `Host.shell` on a swarm of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from tests import pages
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_torchx.swarm_engine import SwarmEngine
    from tests.swarm.hosts import Hosts

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

BLOCKS = [block for block in pages.blocks("sh") if pages.is_for_swarm(block.text)]


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{one.page}:{one.line}" for one in BLOCKS])
def test_blocks_on_a_manager(
    block: pages.Block, hosts: Hosts, swarm_engine: SwarmEngine, tmp_path: Path
) -> None:
    """Each block ends without an error, and leaves no app."""
    before = {row.id for row in swarm_engine.rows({labels.APP_ID: None})}

    hosts[1].shell(block.text.replace("busybox", BUSYBOX), tmp_path)

    assert before == {row.id for row in swarm_engine.rows({labels.APP_ID: None})}
