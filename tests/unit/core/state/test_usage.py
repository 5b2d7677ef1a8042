"""What the replicas of an app use over time."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from airflow_torchx.core.engine.usage import ContainerUsage, GpuUsage, gpu_usages
from airflow_torchx.core.state.progress import merged
from airflow_torchx.core.state.progress_report import Report
from airflow_torchx.core.state.usage import POINTS, Sample, UsageHistory, pauses
from airflow_torchx.core.state.usage_json import Point
from airflow_torchx.core.state.usage_text import usage_advice, usage_cells
from airflow_torchx.specs import (
    AppState,
    DescribeAppResponse,
    ReplicaStatus,
    ReplicaUsage,
    RoleStatus,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MIB = 1 << 20
GIB = 1 << 30
REPLICA = ReplicaStatus(0, AppState.RUNNING, "trainer", "h", container_id="c")
GPU = GpuUsage(percent=50.0, memory_bytes=GIB, memory_limit_bytes=4 * GIB)


def sample(at_s: float, cpu_s: float = 0.0, mib: int = 1, **fields: Any) -> Sample:  # noqa: ANN401
    """Return what a replica uses some seconds after noon."""
    usage = ContainerUsage(
        read_at=NOON + timedelta(seconds=at_s),
        cpu_ns=round(cpu_s * 1e9),
        memory_bytes=mib * MIB,
        memory_limit_bytes=None,
        received_bytes=5,
        sent_bytes=6,
    )
    return Sample(usage=usage, **{"container_id": "c", **fields})


def history(*samples: Sample) -> UsageHistory:
    """Return the history of one replica."""
    found = UsageHistory()
    for one in samples:
        found.add("trainer/0", one)
    return found


def usage(*samples: Sample, of: ReplicaStatus = REPLICA) -> ReplicaUsage:
    """Return what a replica with these samples uses."""
    found = history(*samples).of(of)
    assert found is not None
    return found


def test_the_first_samples_come_early() -> None:
    """An app that runs for ten seconds has three samples; later there is one in 15 s."""
    assert [2, 4, 8, 15, 15] == [*islice(pauses(), 5)]


def test_cpus_are_those_between_two_samples() -> None:
    """The first sample shows the mean since the start, each other one the mean since the last."""
    first = sample(10, 5, started_at=NOON)

    assert 0.5 == usage(first).cpus
    assert 2.0 == usage(first, sample(20, 25)).cpus
    assert usage(sample(10, 5)).cpus is None


def test_peaks_stay() -> None:
    """The highest sample is kept when a replica uses less, or is another container."""
    found = usage(
        sample(0, 0, 10), sample(10, 40, 90), sample(20, 41, 20), sample(30, 1, 5, container_id="d")
    )

    assert (4.0, None) == (found.cpus_peak, found.cpus)
    assert (90 * MIB, 5 * MIB) == (found.memory_peak_bytes, found.memory_bytes)
    assert (5, 6, 1.0) == (found.received_bytes, found.sent_bytes, found.cpu_s)


def test_a_container_that_the_daemon_restarted() -> None:
    """Its CPU time begins again, and none of it is negative."""
    assert 0.2 == usage(sample(0, 100), sample(10, 2)).cpus


def test_two_samples_of_one_moment() -> None:
    """Between them, the use of CPUs is unknown."""
    assert usage(sample(10, 1), sample(10, 2)).cpus is None


def test_gpus() -> None:
    """The use of all GPUs is their mean, and their memory is added up."""
    idle = GpuUsage(percent=0.0, memory_bytes=0, memory_limit_bytes=4 * GIB)
    part = GpuUsage(percent=None, memory_bytes=GIB, memory_limit_bytes=2 * GIB)

    found = usage(sample(0, gpus=(GPU, idle)))

    assert (25.0, GIB, 8 * GIB) == (
        found.gpu_percent,
        found.gpu_memory_bytes,
        found.gpu_memory_limit_bytes,
    )
    assert (None, GIB) == (
        usage(sample(0, gpus=(part,))).gpu_percent,
        usage(sample(0, gpus=(part,))).gpu_memory_bytes,
    )
    unread = usage(sample(0, gpus=(GPU,)), sample(15, gpus=None))
    assert (None, 50.0) == (unread.gpu_percent, unread.gpu_peak_percent)
    assert (None, GIB) == (unread.gpu_memory_bytes, unread.gpu_memory_peak_bytes)


def test_the_output_of_nvidia_smi() -> None:
    """A part of a GPU has no percentage; other texts are refused."""
    assert (
        GpuUsage(percent=7.0, memory_bytes=1024 * MIB, memory_limit_bytes=4096 * MIB),
        GpuUsage(percent=None, memory_bytes=0, memory_limit_bytes=0),
    ) == gpu_usages(b"7, 1024, 4096\n[N/A], 0, 0\n")
    for output in (b"Failed to initialize NVML\n", b"1, 2\n", b"1, [N/A], 3\n"):
        with pytest.raises(ValueError, match=r"unpack|convert|invalid literal"):
            gpu_usages(output)


@pytest.mark.parametrize(
    "output", ["1{0}, 1, 2", "101, 1, 2", "1, 1{0}, 2", "1, 1, 1{0}", "1, -1, 2"]
)
def test_a_program_with_the_name_of_nvidia_smi(output: str) -> None:
    """Numbers that a GPU cannot have are refused: no sum and no table could show them."""
    with pytest.raises(ValueError, match="expected numbers from 0 to"):
        gpu_usages(output.format("0" * 400).encode())


def test_a_replica_that_ran_out_of_memory_has_used_all_of_it() -> None:
    """It took the last part between two samples."""
    limited = sample(0, mib=10, memory_limit_bytes=64 * MIB)
    killed = ReplicaStatus(0, AppState.FAILED, "trainer", "h", oom_killed=True)

    assert 64 * MIB == usage(limited, of=killed).memory_peak_bytes
    assert 10 * MIB == usage(limited).memory_peak_bytes
    assert 10 * MIB == usage(sample(0, mib=10), of=killed).memory_peak_bytes


def test_a_line_always_shows_the_whole_run() -> None:
    """A line has 60 points at most; when it is full, two become one, the higher one."""
    found = history(*(sample(15 * i, 15 * i, i) for i in range(POINTS)))
    assert [*range(60)] == [point and point.memory_mib for point in found.line(REPLICA)]

    found.add("trainer/0", sample(900, 900, 3))

    line = found.line(REPLICA)
    assert (31, 30.0) == (len(line), found.step_s)
    assert [*range(1, 60, 2), 3] == [point and point.memory_mib for point in line]


def test_a_point_is_the_highest_sample_of_its_interval() -> None:
    """A later sample of an interval does not lower its point, and a merge takes the higher one."""
    found = history(sample(0, mib=9), sample(5, mib=2), sample(15, mib=3))
    assert [9, 3] == [point and point.memory_mib for point in found.line(REPLICA)]

    found.coarsen()

    assert [9] == [point and point.memory_mib for point in found.line(REPLICA)]


def test_a_day_without_a_sample() -> None:
    """A long gap leaves unknown points, and one line still fits all of it."""
    found = history(sample(0, mib=1), sample(86_400, mib=2))

    line = found.line(REPLICA)
    assert len(line) <= POINTS
    assert (1, 2) == (line[0] and line[0].memory_mib, line[-1] and line[-1].memory_mib)
    assert {None} == {*line[1:-1]}


def test_a_clock_that_goes_back() -> None:
    """A sample before the first one counts with the first one."""
    assert [Point(None, 9, None)] == history(sample(0), sample(-50, mib=9)).line(REPLICA)


def test_it_is_stored_and_read_again() -> None:
    """What a deferral stores gives the same peaks and lines, and goes on from there."""
    fields: dict[str, Any] = {"gpus": (GPU,), "cpus_limit": 2.0, "container_id": "c" * 64}
    found = history(sample(0, 0, 5, **fields), sample(30, 30, 7, **fields))

    stored = json.loads(json.dumps(found.to_json(16_384)))
    again = UsageHistory.parse(stored)

    assert found.of(REPLICA) == again.of(REPLICA)
    assert found.line(REPLICA) == again.line(REPLICA)
    again.add("trainer/0", sample(40, 35, **fields))
    assert 0.5 == (again.of(REPLICA) or usage()).cpus
    assert "c" * 12 == stored["replicas"]["trainer/0"]["container"]
    assert {"start", "step", "replicas"} == stored.keys()
    assert {} == UsageHistory().to_json(16_384)


def test_a_copy() -> None:
    """A copy has the progress, and changes of it do not change the history."""
    found = history(sample(0, mib=1))
    found.progress = merged(None, Report(step=3), "c", 5.0)
    copy = found.copy()
    copy.add("trainer/0", sample(1, mib=9))

    assert found.progress is copy.progress
    assert [Point(None, 1, None)] == found.line(REPLICA)


def test_progress_is_stored_before_all_else() -> None:
    """It counts for the size, and is there although nothing else fits or can be used."""
    found = history(*(sample(15 * i, 15 * i, i) for i in range(POINTS)))
    found.progress = merged(None, Report(step=3), "c", 5.0)

    stored: dict[str, Any] = {}
    for limit in (1_000, 600, 400, 200):
        stored = found.to_json(limit)
        assert len(json.dumps(stored)) <= limit
        assert found.progress == UsageHistory.parse(stored).progress
    assert {"progress"} == stored.keys()
    for broken in ({}, {"start": 1, "step": 0, "replicas": {}}):
        assert found.progress == UsageHistory.parse({**stored, **broken}).progress


def test_a_stored_history_is_small() -> None:
    """Lines lose points, then go, then all of it goes, so that it fits."""
    found = UsageHistory()
    for i in range(POINTS):
        for index in range(40):
            found.add(f"trainer/{index}", sample(15 * i, 14.9 * i, 1000 + i))

    stored: dict[str, Any] = {}
    for limit in (200_000, 60_000, 20_000, 8_000):
        stored = found.to_json(limit)
        assert len(json.dumps(stored)) <= limit
        assert 40 == len(stored["replicas"])
    assert not stored["replicas"]["trainer/0"]["line"]
    assert {} == found.to_json(1_000)
    assert POINTS == len(found.line(REPLICA))


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {"start": 1, "step": 0, "replicas": {"a/0": {"at": 5}}},
        {"start": "x", "step": 15, "replicas": {"a/0": {"at": 5}}},
        {"start": 1, "step": 15, "replicas": []},
        {"start": 1, "step": 15, "replicas": {"a/0": {"at": 1e17}, "a/1": None}},
        {"start": 1, "step": 15, "replicas": {"a/0": {"at": -1e17}}},
        {"start": float("inf"), "step": 15, "replicas": {"a/0": {"at": 5}}},
    ],
)
def test_a_stored_history_that_cannot_be_used(stored: object) -> None:
    """It counts as empty."""
    assert {} == UsageHistory.parse(stored).to_json(16_384)


def test_unknown_and_broken_fields_are_ignored() -> None:
    """Another release may have stored other fields."""
    line = {"cpu": [1, "x"], "mem": [None, 3, 4], "later": [1]}
    replica = {"container": "c", "at": 5, "cpus": True, "later": 1, "line": line}
    replica |= {"mem_peak": 7.0, "cpus_limit": 2}

    found = UsageHistory.parse({"start": 1, "step": 15, "replicas": {"trainer/0": replica}})

    at = datetime.fromtimestamp(5, UTC)
    expected = ReplicaUsage(sampled_at=at, memory_peak_bytes=7, cpus_limit=2.0)
    assert repr(expected) == repr(found.of(REPLICA))
    assert [
        Point(1, None, None),
        Point(None, 3, None),
        Point(None, 4, None),
    ] == found.line(REPLICA)


def test_a_stored_line_is_cut() -> None:
    """A stored line has no more points than a line can have."""
    replica = {"at": 5, "line": {"mem": [*range(99)]}}

    found = UsageHistory.parse({"start": 1, "step": 15, "replicas": {"trainer/0": replica}})

    assert POINTS == len(found.line(REPLICA))


def test_an_app_is_marked() -> None:
    """Each replica with a sample gets its usage."""
    other = ReplicaStatus(1, AppState.RUNNING, "trainer", "h")
    app = DescribeAppResponse("a", roles_statuses=[RoleStatus("trainer", [REPLICA, other])])

    marked = history(sample(0)).mark(app)

    assert [MIB, None] == [
        one.usage and one.usage.memory_bytes for one in marked.roles_statuses[0].replicas
    ]
    assert app is UsageHistory().mark(app)


def ended(**fields: Any) -> ReplicaStatus:  # noqa: ANN401 - fields of the usage
    """Return a replica that ran for ten minutes."""
    used = ReplicaUsage(sampled_at=NOON + timedelta(minutes=10), **fields)
    return ReplicaStatus(0, AppState.SUCCEEDED, "trainer", "h", started_at=NOON, usage=used)


def test_cells() -> None:
    """A replica that runs shows what it uses, one that has ended its peaks."""
    used: dict[str, Any] = {
        "cpus": 1.04,
        "cpus_peak": 3.26,
        "cpus_limit": 8.0,
        "memory_bytes": 3 * MIB,
        "memory_peak_bytes": round(15.9 * GIB),
        "memory_limit_bytes": 16 * GIB,
        "gpu_percent": 3.0,
        "gpu_peak_percent": 98.0,
        "gpu_memory_bytes": GIB,
        "gpu_memory_peak_bytes": 70 * GIB,
        "gpu_memory_limit_bytes": 80 * GIB,
    }

    assert {
        "memory": "peak 15.9 of 16 GiB",
        "CPUs": "peak 3.3 of 8",
        "GPU": "peak 98 %, 70 of 80 GiB",
    } == usage_cells(ended(**used))
    running = ReplicaStatus(0, AppState.RUNNING, "t", "h", usage=ended(**used).usage)
    assert {"memory": "3 MiB of 16 GiB", "CPUs": "1 of 8", "GPU": "3 %, 1 of 80 GiB"} == (
        usage_cells(running)
    )
    assert {"memory": "peak 0.5 KiB", "CPUs": "-", "GPU": "-"} == (
        usage_cells(ended(memory_peak_bytes=512))
    )
    assert {"-"} == {*usage_cells(REPLICA).values()}


@pytest.mark.parametrize(
    ("used", "advice"),
    [
        (
            {"memory_peak_bytes": round(15.9 * GIB), "memory_limit_bytes": 16 * GIB},
            ["trainer: memory peak 15.9 of 16 GiB; raise resource.memMB"],
        ),
        (
            {"cpus_peak": 1.3, "cpus_limit": 8.0},
            ["trainer: asked for 8 CPUs, used 1.3; lower resource.cpu"],
        ),
        ({"cpus_peak": 0.7, "cpus_limit": 1.5}, []),
        ({"cpus_peak": 4.1, "cpus_limit": 8.0}, []),
        ({"cpus_peak": 0.1}, []),
        ({"cpus_limit": 8.0}, []),
        ({"gpu_peak_percent": 3.0}, ["trainer: its GPUs were 3 % busy at most"]),
        ({"gpu_peak_percent": 60.0}, []),
    ],
)
def test_advice(used: dict[str, Any], advice: list[str]) -> None:
    """Advice is for a limit that is near, or for resources that are not used."""
    app = DescribeAppResponse("a", roles_statuses=[RoleStatus("trainer", [ended(**used), REPLICA])])

    assert advice == usage_advice(app)


def test_advice_for_a_role_counts_all_its_replicas() -> None:
    """The replica nearest to its limit is named, and one that uses CPUs or GPUs is enough."""
    role: dict[str, list[dict[str, Any]]] = {
        "near": [
            {"memory_peak_bytes": GIB, "memory_limit_bytes": 16 * GIB},
            {"memory_peak_bytes": 4 * GIB, "memory_limit_bytes": 4 * GIB},
        ],
        "limits": [{"cpus_peak": 1.2, "cpus_limit": 2.0}, {"cpus_peak": 1.2, "cpus_limit": 8.0}],
        "CPUs": [{"cpus_peak": 0.2, "cpus_limit": 8.0}, {"cpus_peak": 7.2, "cpus_limit": 8.0}],
        "GPUs": [{"gpu_peak_percent": 3.0}, {"gpu_peak_percent": 60.0}],
        "fraction": [{"cpus_peak": 0.2, "cpus_limit": 1.5}],
    }

    roles = [RoleStatus(name, [ended(**one) for one in used]) for name, used in role.items()]

    assert [
        "near: memory peak 4 of 4 GiB; raise resource.memMB",
        "fraction: asked for 1.5 CPUs, used 0.2; lower resource.cpu",
    ] == usage_advice(DescribeAppResponse("a", roles_statuses=roles))


def test_no_advice_after_a_short_run() -> None:
    """A replica that ran for a minute has mostly started."""
    used = ReplicaUsage(sampled_at=NOON + timedelta(minutes=1), cpus_peak=0.1, cpus_limit=8.0)
    short = ReplicaStatus(0, AppState.SUCCEEDED, "t", "h", started_at=NOON, usage=used)

    unknown = replace(short, started_at=None)

    for one in (short, unknown):
        assert [] == usage_advice(DescribeAppResponse(roles_statuses=[RoleStatus("t", [one])]))
