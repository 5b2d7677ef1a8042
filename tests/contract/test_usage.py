"""What running containers use, and commands that run in them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.errors import EngineConflictError, EngineNotFoundError
from tests.airflow.processes import PATIENCE_S
from tests.contract.bench import wait_for
from tests.contract.script import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.engine.usage import ContainerUsage, Execution
    from tests.contract.bench import Bench

GONE = "f" * 64


def used(bench: Bench, container_id: str) -> ContainerUsage:
    """Return what a running container uses."""
    found = bench.engine.usage(container_id)
    assert found is not None
    return found


def ran(
    bench: Bench, container_id: str, command: Sequence[str], max_bytes: int = 1000
) -> Execution:
    """Run a command in a container."""
    return bench.engine.execute(container_id, command, timeout_s=PATIENCE_S, max_bytes=max_bytes)


def test_cpu_time_grows(bench: Bench) -> None:
    """The CPU time of a busy container grows between two readings, and so does their time."""
    container_id = bench.run(Script(cpus=1.0, then_s=None))
    first = used(bench, container_id)

    wait_for(lambda: used(bench, container_id).cpu_ns >= first.cpu_ns + 50_000_000)

    assert used(bench, container_id).read_at > first.read_at


def test_an_idle_container_uses_no_cpu(bench: Bench) -> None:
    """The CPU time of a container that sleeps stays the same."""
    container_id = bench.run_until_it_writes(Script(lines=("ready",), then_s=None))

    def rests() -> bool:
        first = used(bench, container_id)
        wait_for(lambda: (used(bench, container_id).read_at - first.read_at).total_seconds() > 0.5)
        return used(bench, container_id).cpu_ns == first.cpu_ns

    # The shell starts its `sleep` after the line, which a slow machine may do at any time.
    wait_for(rests)


def test_memory(bench: Bench) -> None:
    """The memory is below the limit of the container."""
    spec = replace(bench.spec(Script(then_s=None)), memory_mib=64)
    found = used(bench, bench.run(spec))

    assert 64 << 20 == found.memory_limit_bytes
    assert 0 < found.memory_bytes < 64 << 20


def test_limits(bench: Bench) -> None:
    """An inspect shows the limits of a container, and none for one without."""
    spec = replace(bench.spec(Script()), memory_mib=64, nano_cpus=500_000_000)
    limited, free = (bench.detail(bench.create(one)) for one in (spec, Script()))

    assert (64 << 20, 500_000_000) == (limited.memory_bytes, limited.nano_cpus)
    assert (None, None) == (free.memory_bytes, free.nano_cpus)


def test_without_a_run(bench: Bench) -> None:
    """A container that does not run, or does not exist, uses nothing."""
    assert bench.engine.usage(bench.create(Script())) is None
    assert bench.engine.usage(bench.run_to_its_end(Script())) is None
    assert bench.engine.usage(GONE) is None


def test_a_command(bench: Bench) -> None:
    """A command in a running container returns its output and its exit code."""
    script = Script(then_s=None, commands={"cat": (0, b"hello\n"), "false": (1, b"")})
    container_id = bench.run_until_it_writes(
        replace(script, lines=("ready",), files={"/greeting": b"hello\n"})
    )

    found = ran(bench, container_id, ["cat", "/greeting"])
    failed = ran(bench, container_id, ["false"])
    short = ran(bench, container_id, ["cat", "/greeting"], max_bytes=3)

    assert (0, b"hello\n") == (found.exit_code, found.output)
    assert (1, b"") == (failed.exit_code, failed.output)
    assert b"hel" == short.output


def test_a_command_that_does_not_exist(bench: Bench) -> None:
    """A program that the container does not have ends with a code of its own."""
    container_id = bench.run(Script(then_s=None))

    missing = ran(bench, container_id, ["no-such"])

    assert missing.exit_code in (126, 127)


def test_a_command_needs_a_running_container(bench: Bench) -> None:
    """A command in a container that has ended, or does not exist, is an error."""
    container_id = bench.run_to_its_end(Script())

    with pytest.raises(EngineConflictError):
        ran(bench, container_id, ["true"])
    with pytest.raises(EngineNotFoundError):
        ran(bench, GONE, ["true"])
