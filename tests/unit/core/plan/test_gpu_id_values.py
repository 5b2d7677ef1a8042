"""The ids of GPUs that a connection may list."""

from __future__ import annotations

import pytest

from airflow_torchx.core.plan.gpu_id_values import are_mixed, check_gpu_ids
from airflow_torchx.errors import InvalidAppError

UUID = "9f21c0de-5b9a-4c7d-9e21-0a6b5c4d3e2f"


@pytest.mark.parametrize(
    "ids",
    [
        [f"GPU-{UUID}", "GPU-2c7d"],
        [f"MIG-{UUID}", f"MIG-GPU-{UUID}/1/0", f"MIG-GPU-{UUID}/2/0"],
        ["0", "1", "10", "gpu2"],
        ["0:1", "0:10", "mig0:2", "1"],
        ["GPU-aa", "0"],  # the daemon may report them
        [f"GPU-{index:06}" for index in range(1024)],
    ],
)
def test_valid_ids(ids: list[str]) -> None:
    """UUIDs and their beginnings, indices, MIG devices and CDI's names are accepted."""
    check_gpu_ids(ids)


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        ("GPU-aaaa,GPU-bbbb", "list one id per entry, without spaces or commas"),
        (" ", "list one id per entry, without spaces or commas"),
        (" GPU-aaaa ", "list one id per entry, without spaces or commas"),
        ("GPU-a\nb", "list one id per entry, without spaces or commas"),
        ("GPU-a\n", "list one id per entry, without spaces or commas"),
        ("all", "leave out gpu_ids to use all GPUs, or list some"),
        ("None", "leave out gpu_ids to use all GPUs, or list some"),
        ("void", "leave out gpu_ids to use all GPUs, or list some"),
        ("nvidia.com/gpu=GPU-aaaa", "write 'GPU-aaaa', without the kind of the device"),
        ("gpu-aaaa", "write 'GPU-aaaa'; the case counts"),
        ("00", "write 0"),
        ("-1", "write a UUID, as `nvidia-smi -L` prints it, or its beginning"),
        ("GPU-", "write a UUID, as `nvidia-smi -L` prints it, or its beginning"),
        ("GPU-é", "write a UUID, as `nvidia-smi -L` prints it, or its beginning"),
        ("٣", "write a UUID, as `nvidia-smi -L` prints it, or its beginning"),
        ("0:01", "write a UUID, as `nvidia-smi -L` prints it, or its beginning"),
        ("9" * 5000, "write a UUID, as `nvidia-smi -L` prints it, or its beginning"),
    ],
)
def test_what_is_not_an_id(given: str, fix: str) -> None:
    """The error names the entry, and says what to write instead."""
    with pytest.raises(InvalidAppError) as raised:
        check_gpu_ids(["GPU-2c7d", given])

    (problem,) = raised.value.problems
    assert ("gpu_ids[1]", f"{given!r:.60} is not the id of a GPU") == (problem.where, problem.what)
    assert problem.fix.startswith(fix)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("GPU-aaaa", "GPU-aa"),
        ("GPU-aa", "GPU-aaaa"),
        ("GPU-aaaa", "GPU-AAAA"),
        ("GPU-aaaa", "GPU-aaaa"),
        ("MIG-aa", "MIG-aa-bb"),
        ("0", "gpu0"),
        ("0:1", "mig0:1"),
        ("0", "0:1"),
    ],
)
def test_two_ids_of_one_gpu(first: str, second: str) -> None:
    """Two entries that may name one GPU are refused: two apps would get it."""
    with pytest.raises(InvalidAppError) as raised:
        check_gpu_ids(["GPU-2c7d", first, "GPU-a1", second, "7"])

    (problem,) = raised.value.problems
    what = f"{second!r} may name the same GPU as {first!r}"
    assert ("gpu_ids[3]", what) == (problem.where, problem.what)
    assert "list each GPU once, by its whole id" == problem.fix


def test_too_many_ids() -> None:
    """The error has the number of the ids, and not all of them."""
    with pytest.raises(InvalidAppError, match="gpu_ids: 1025 ids are too many; list at most 1024"):
        check_gpu_ids([str(index) for index in range(1025)])


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([], False),
        (["GPU-a", "MIG-b"], False),
        (["0", "gpu1", "2:0"], False),
        (["GPU-a", "0"], True),
        (["MIG-a", "mig0:1"], True),
    ],
)
def test_indices_beside_uuids(ids: list[str], expected: bool) -> None:
    """An index and a UUID may name one GPU."""
    assert expected == are_mixed(ids)
