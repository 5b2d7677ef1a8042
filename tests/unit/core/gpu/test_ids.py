"""Which GPU ids mean the same GPU."""

from __future__ import annotations

import pytest

from airflow_torchx.core.engine.containers import GpuRequest
from airflow_torchx.core.gpu.ids import ALL, GpuIds, parse_nvidia_smi, unlisted, used_ids

UUIDS = ("GPU-aa", "GPU-ab", "GPU-ba")
PARTS = ("0", "1:0", "1:1")


@pytest.mark.parametrize(
    ("given", "reported", "expected"),
    [
        (["GPU-ab"], UUIDS, ("GPU-ab",)),
        (["2", "0"], UUIDS, ("GPU-ba", "GPU-aa")),
        (["GPU-b"], UUIDS, ("GPU-ba",)),
        (["GPU-ba77"], UUIDS, ("GPU-ba",)),  # a connection may have its beginning
        (["GPU-a"], UUIDS, ()),  # the beginning of two
        (["3"], UUIDS, ()),
        (["9" * 5000], UUIDS, ()),  # Python refuses to read so many digits
        ([], UUIDS, ()),
        ([ALL], UUIDS, UUIDS),
        (["GPU-zz"], UUIDS, ()),
        # An id of another form may be any of the daemon's.
        (["GPU-ab"], ("0", "1"), ("0", "1")),
        (["MIG-1"], UUIDS, UUIDS),
        (["1"], ("0", "1"), ("1",)),
        (["GPU-ab"], (ALL,), (ALL,)),
        ([], (ALL,), ()),
    ],
)
def test_held(given: list[str], reported: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """An id is a UUID, the beginning of one, or a position in the daemon's list."""
    assert expected == GpuIds(reported, is_indexed=True).held(given)


@pytest.mark.parametrize(
    ("given", "known", "expected"),
    [
        # Docker sorts UUIDs: a position is not an index.
        (["0"], UUIDS, UUIDS),
        # A connection selects some GPUs of a daemon that reports none.
        (["1"], ("GPU-b",), ("GPU-b",)),
        (["1"], ("0", "2"), ()),
        # A GPU may be the whole of which a listed device is a part.
        (["MIG-1"], ("MIG-1", "MIG-2"), ("MIG-1",)),
        (["MIG-3"], ("MIG-1", "MIG-2"), ()),
        (["GPU-a"], ("MIG-1", "MIG-2"), ("MIG-1", "MIG-2")),
        (["0:1"], ("MIG-1", "MIG-2"), ("MIG-1", "MIG-2")),
        (["0"], PARTS, ("0",)),
        (["1"], PARTS, PARTS),
        (["1:1"], PARTS, ("1:1",)),
        (["MIG-1"], PARTS, PARTS),
        # Names in CDI have forms of their own.
        (["gpu0"], ("gpu1",), ()),
        (["gpu1"], ("gpu10",), ()),
        (["0"], ("gpu0", "gpu1"), ("gpu0", "gpu1")),
        (["mig0:1"], ("mig0:0", "mig0:1"), ("mig0:1",)),
        (["mig0:1"], ("mig0:0", "mig1:0"), ()),
        (["gpu0"], ("mig0:0", "mig0:1"), ("mig0:0", "mig0:1")),
    ],
)
def test_held_where_positions_mean_nothing(
    given: list[str], known: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    """An id that cannot be compared holds every GPU."""
    assert expected == GpuIds(known).held(given)


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([GpuRequest(count=2)], ("GPU-aa", "GPU-ab")),
        ([GpuRequest(count=1, device_ids=("GPU-ba",))], ("GPU-ba",)),
        ([GpuRequest(count=1, device_ids=("1",)), GpuRequest(count=1)], ("GPU-ab", "GPU-aa")),
        ([GpuRequest(count=-1)], ()),
        ([GpuRequest(count=1, device_ids=(ALL,))], ()),
        ([], ()),
    ],
)
def test_requested(requests: list[GpuRequest], expected: tuple[str, ...]) -> None:
    """A request by count holds the first GPUs; one for all GPUs holds none."""
    assert expected == GpuIds(UUIDS, is_indexed=True).requested(requests)


def test_gpus_of_a_connection() -> None:
    """They have the daemon's ids; an index needs a list in the order of the indices."""
    indexed, sorted_ = GpuIds(UUIDS, is_indexed=True), GpuIds(UUIDS)

    assert ("GPU-ba", "GPU-aa") == used_ids(["2", "GPU-aa", "GPU-ba"], indexed)
    assert () == unlisted(["2", "GPU-aa"], indexed)
    assert ("2",) == unlisted(["2", "GPU-aa"], sorted_)
    assert () == unlisted(["2"], GpuIds(()))


def test_the_output_of_nvidia_smi() -> None:
    """MIG devices replace the GPU that they are parts of."""
    text = (
        "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5c89852c)\n"
        "  MIG 3g.20gb     Device  0: (UUID: MIG-d7a2)\n"
        "  MIG 3g.20gb     Device  1: (UUID: MIG-e8b3)\n"
        "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-16a23f1)\n"
    )

    assert {
        "MIG-d7a2": "NVIDIA A100-SXM4-40GB, MIG 3g.20gb",
        "MIG-e8b3": "NVIDIA A100-SXM4-40GB, MIG 3g.20gb",
        "GPU-16a23f1": "NVIDIA A100-SXM4-40GB",
    } == parse_nvidia_smi(text)
    assert {} == parse_nvidia_smi("NVIDIA-SMI has failed\n")
