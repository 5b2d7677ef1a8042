"""Volumes that containers mount."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.specs import VolumeMount
from tests.contract.script import Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.bench import Bench


@pytest.fixture
def volume(bench: Bench) -> Iterator[str]:
    """Return the name of a volume, which is removed at the end."""
    name = f"{bench.app_id}-volume"
    yield name
    for row in bench.rows():
        bench.engine.remove(row.id)
    bench.engine.remove_volume(name)


def test_a_volume_is_removed_once_no_container_mounts_it(bench: Bench, volume: str) -> None:
    """A mounted volume is neither listed nor removed; then it is, once, with its labels."""
    own = {labels.CHECKPOINT: volume}
    mounted = replace(
        bench.spec(Script()),
        mounts=(VolumeMount(src=volume, dst_path="/data"),),
        volume_labels={volume: own},
    )
    container_id = bench.create(mounted)

    assert () == bench.engine.unused_volumes(own)
    assert not bench.engine.remove_volume(volume)

    bench.engine.remove(container_id)
    (row,) = bench.engine.unused_volumes({labels.CHECKPOINT: volume})
    assert (volume, own) == (row.name, row.labels)
    assert row in bench.engine.unused_volumes({labels.CHECKPOINT: None})
    assert () == bench.engine.unused_volumes({labels.CHECKPOINT: f"{volume}-2"})

    assert bench.engine.remove_volume(volume)
    assert not bench.engine.remove_volume(volume)
    assert () == bench.engine.unused_volumes(own)
