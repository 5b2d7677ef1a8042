"""How far a program is, read from real containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.runtime import attach
from airflow_torchx.runtime.progress import ProgressMonitor
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, AppState, Resource, Role
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

pytestmark = pytest.mark.docker

REPORT = 'echo \'{"step": %d, "total": 9}\' >>$TORCHX_PROGRESS_FILE'
LARGE = "yes '{\"step\": 5}' | head -c %d >$TORCHX_PROGRESS_FILE; echo >>$TORCHX_PROGRESS_FILE"


def step_of(monitor: ProgressMonitor) -> float | None:
    """Return the last step; None without one."""
    return None if monitor.progress is None else monitor.progress.report.step


def step(
    engine: DockerEngine, app_id: str, script: str, options: dict[str, object] | None = None
) -> tuple[float | None, float | None]:
    """Run a script that writes "ready" and waits; return its step while it runs, and afterwards."""
    waits = f"trap 'exit 0' TERM; {script}; echo ready; while :; do sleep 0.1; done"
    role = Role(
        "trainer",
        BUSYBOX,
        entrypoint="sh",
        args=["-c", waits],
        resource=Resource(cpu=-1, gpu=-1, memMB=-1),
    )
    scheduler = DockerScheduler("test", engine)
    launched = scheduler.submit(
        AppDef(app_id, [role]), {"progress_pattern": None, **(options or {})}
    )
    seen = attach.look(engine, launched)
    lines = scheduler.log_iter(launched, "trainer", should_tail=True)
    assert any("ready" in line for line in lines)
    running, ended = ProgressMonitor(), ProgressMonitor()
    running.read(engine, seen)
    assert AppState.RUNNING is replicas_of(seen)[0].state
    scheduler.cancel(launched)
    ended.read(engine, attach.look(engine, launched, inspect_all=True))
    return step_of(running), step_of(ended)


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (f"{REPORT % 3}; {REPORT % 4}", (4, 4)),
        (":", (None, None)),
        (f"{LARGE % 200_000}; {REPORT % 7}", (7, 7)),
        (f"{LARGE % 9_000_000}; {REPORT % 7}", (7, None)),
        ("mkdir $TORCHX_PROGRESS_FILE", (None, None)),
        ("mkfifo $TORCHX_PROGRESS_FILE", (None, None)),
        ("ln -s /dev/zero $TORCHX_PROGRESS_FILE", (None, None)),
        ("head -c 300000 /dev/urandom >$TORCHX_PROGRESS_FILE", (None, None)),
    ],
    ids=["small", "none", "large", "huge", "folder", "pipe", "endless", "garbage"],
)
def test_a_file(
    docker_engine: DockerEngine, app_id: str, script: str, found: tuple[float | None, float | None]
) -> None:
    """The last report of a file is found while its program runs, and after its end."""
    assert found == step(docker_engine, app_id, script)


def test_a_log(docker_engine: DockerEngine, app_id: str) -> None:
    """With a pattern, the last line of the log that matches counts."""
    options: dict[str, object] = {"progress_pattern": r"(?P<step>\d+)/(?P<total>\d+) \["}
    script = r"printf ' 1/9 [\r 2/9 [\r'; echo; echo saved"

    assert (2, 2) == step(docker_engine, app_id, script, options)
