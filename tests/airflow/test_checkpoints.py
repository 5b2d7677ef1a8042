"""Tasks whose apps save before the timeout, and continue in the next try."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.errors import AppFailedError
from tests.airflow.apps import both_modes, shell

if TYPE_CHECKING:
    from pathlib import Path

    from tests.airflow.one_task import OneTask

pytestmark = pytest.mark.docker

#: Saves and ends after the signal; with a checkpoint, it is complete.
SAVES: Final = """
file="$TORCHX_CHECKPOINT_DIR/$TORCHX_REPLICA_IDX"
[ ! -f "$file" ] || exit 0
trap 'echo "I save"; echo 1 >"$file"; exit 3' USR1
while true; do sleep 0.1; done
"""


@both_modes
def test_a_try_that_times_out_is_continued(
    one_task: OneTask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Replicas are asked to save before the timeout of a try, and the next try continues there."""
    caplog.set_level("INFO")

    ended = one_task.run(
        app=shell(SAVES),
        checkpoint=tmp_path,
        options={"checkpoint_signal": "SIGUSR1", "checkpoint_before_timeout_s": 296},
        execution_timeout=timedelta(seconds=300),
        retries=1,
        retry_delay=timedelta(0),
    )

    assert "success" == ended.state
    assert isinstance(ended.error, AppFailedError)
    assert 3 == ended.error.exit_code
    assert "sent SIGUSR1 to 2 replicas of app" in caplog.text
    saved = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert ["0", "1"] == sorted(path.name for path in saved)
    assert 1 == len({path.parent for path in saved})
    assert [] == ended.rows


def test_a_save_that_takes_as_long_as_a_try(
    one_task: OneTask, capsys: pytest.CaptureFixture[str]
) -> None:
    """The task warns if the replicas cannot be asked before the timeout."""
    ended = one_task.run(
        app=shell("true"),
        options={"checkpoint_signal": "SIGUSR1", "checkpoint_before_timeout_s": 60},
        execution_timeout=timedelta(seconds=60),
    )

    assert "success" == ended.state
    printed = capsys.readouterr().out
    assert "checkpoint_before_timeout_s (60) is not less than execution_timeout" in printed
