"""Restarts of containers that have ended, and what shows that one may come."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.gpu.revival import ended_recently, is_revived
from tests.contract.bench import wait_for
from tests.contract.script import Script

if TYPE_CHECKING:
    from tests.contract.bench import Bench


def test_restarts(bench: Bench) -> None:
    """A failing container is restarted up to its maximum."""
    script = Script(lines=("try",), exit_code=4)
    container_id = bench.run(replace(bench.spec(script), max_restarts=2))
    detail = bench.ended(container_id)

    assert (4, 2) == (detail.exit_code, detail.restarts)
    assert [("stdout", b"try\n")] * 3 == bench.log(container_id)


def test_restarting(bench: Bench) -> None:
    """A container is restarting between two runs, and its status has the last exit code."""
    script = Script(exit_code=4)
    container_id = bench.run(replace(bench.spec(script), max_restarts=50))

    wait_for(lambda: bench.row(container_id).state == "restarting")

    # It may run again by now; the counter increases when the run fails.
    assert bench.detail(container_id).restarts > 0
    wait_for(lambda: bench.row(container_id).status.startswith("Restarting (4) "))


def test_no_restart_after_success(bench: Bench) -> None:
    """A container that exits with 0 is not restarted."""
    container_id = bench.run(replace(bench.spec(Script()), max_restarts=2))

    assert 0 == bench.ended(container_id).restarts


@pytest.mark.parametrize("maximum", [0, 3])
def test_restart_policy(bench: Bench, maximum: int) -> None:
    """The detail of a container has its restart policy, and none without restarts."""
    container_id = bench.create(replace(bench.spec(Script()), max_restarts=maximum))
    detail = bench.detail(container_id)

    policy = "on-failure" if maximum else ""
    assert (policy, maximum) == (detail.restart_policy, detail.max_restarts)


@pytest.mark.parametrize("maximum", [0, 3])
def test_a_container_that_was_stopped_may_be_revived(bench: Bench, maximum: int) -> None:
    """Its row shows that it has just ended, and its detail how often it may be restarted."""
    spec = replace(bench.spec(Script(lines=("up",), then_s=None)), max_restarts=maximum)
    container_id = bench.run_until_it_writes(spec)
    assert not ended_recently(bench.row(container_id))

    bench.engine.stop(container_id, grace_s=10)
    row = bench.row(container_id)

    assert ended_recently(row)
    assert bool(maximum) is is_revived(row, bench.detail(container_id))


def test_a_container_that_used_up_its_restarts_is_not_revived(bench: Bench) -> None:
    """Its last run has failed as well."""
    container_id = bench.run(replace(bench.spec(Script(exit_code=4)), max_restarts=1))
    detail = bench.ended(container_id)

    assert ended_recently(bench.row(container_id))
    assert not is_revived(bench.row(container_id), detail)
