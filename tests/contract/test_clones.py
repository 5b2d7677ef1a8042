"""Containers that are created with the configuration of another one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine.containers import GpuRequest
from airflow_torchx.errors import EngineConflictError, EngineNotFoundError
from tests.contract.script import Script

if TYPE_CHECKING:
    from tests.contract.bench import Bench

GONE = "f" * 64


def test_a_clone_has_another_name_and_changed_labels(bench: Bench) -> None:
    """A clone is created, not started, and its other labels are those of the original."""
    spec = bench.spec(Script())
    spec = replace(spec, labels={**spec.labels, "color": "red", "size": "big"})
    original = bench.run_to_its_end(spec)

    clone = bench.clone(original, labels={"color": "blue", "round": "1"})

    row = bench.row(clone)
    assert ("created", f"{spec.name}-r1", spec.image) == (row.state, row.name, row.image)
    assert {**spec.labels, "color": "blue", "round": "1"} == bench.labels(clone)
    assert "exited" == bench.row(original).state


def test_a_clone_runs_the_same_program(bench: Bench) -> None:
    """A clone runs as the original did, once it is started by its name."""
    spec = bench.spec(Script(lines=("once",), exit_code=4))
    original = bench.run_to_its_end(spec)

    clone = bench.clone(original)
    bench.engine.start(f"{spec.name}-r1")

    assert 4 == bench.ended(clone).exit_code
    assert [("stdout", b"once\n")] == bench.log(clone) == bench.log(original)


def test_a_clone_of_a_clone(bench: Bench) -> None:
    """A clone can be cloned, after the original was removed."""
    spec = bench.spec(Script(lines=("still",)))
    original = bench.create(spec)
    first = bench.clone(original, labels={"round": "1"})
    bench.engine.remove(original)

    second = bench.engine.clone(first, name=spec.name, labels={"round": "2"}, env={})
    bench.engine.start(second)
    bench.ended(second)

    assert {**spec.labels, "round": "2"} == bench.labels(second)
    assert [("stdout", b"still\n")] == bench.log(second)


def test_a_clone_requests_the_same_gpus_and_restarts(bench: Bench) -> None:
    """A clone has the GPUs and the restart policy of the original, and no restarts."""
    request_ = GpuRequest(count=2, device_ids=("GPU-a", "GPU-b"))
    spec = replace(bench.spec(Script()), gpus=request_, max_restarts=2)

    clone = bench.detail(bench.clone(bench.create(spec)))

    assert ((request_,), 2, 0) == (clone.gpus, clone.max_restarts, clone.restarts)


def test_a_taken_name(bench: Bench) -> None:
    """Of two clones of one name, one is created."""
    original = bench.create(Script())
    clone = bench.clone(original)

    with pytest.raises(EngineConflictError):
        bench.clone(original)

    assert {original, clone} == {row.id for row in bench.rows()}


def test_a_container_that_is_gone(bench: Bench) -> None:
    """A removed container cannot be cloned."""
    with pytest.raises(EngineNotFoundError):
        bench.engine.clone(GONE, name=f"{bench.app_id}-r1", labels={}, env={})


def test_a_renamed_container_is_not_started_by_its_name(bench: Bench) -> None:
    """A client that starts a container by its name finds none after a rename."""
    spec = bench.spec(Script())
    container_id = bench.create(spec)
    bench.engine.rename(container_id, f"{spec.name}.cancelled")

    with pytest.raises(EngineNotFoundError):
        bench.engine.start(spec.name)

    assert "created" == bench.row(container_id).state
