"""Where the value of a private environment variable is, and where it is not."""

from __future__ import annotations

import json
import traceback
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from airflow.sdk._shared.secrets_masker import redact
from airflow.sdk.log import mask_secret
from structlog.testing import capture_logs

from airflow_torchx.core.engine import labels
from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.specs import to_dict
from airflow_torchx.testing import Program
from tests.airflow.apps import shell
from tests.airflow.fake_daemon import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.one_task import OneTask
    from tests.airflow.stack import Stack, Task

#: In the source of the DAG the secret is only there backwards.
BACKWARDS: Final = "emases-nepo"
SECRET: Final = "open-sesame"  # noqa: S105 - a test's
PRIVATE_ENV: Final = {"MAGIC_WORD": f"{{{{ '{BACKWARDS}' | reverse }}}}"}


@pytest.mark.docker
@pytest.mark.timeout(240)
def test_whole_airflow(
    launch: Callable[[str], Task], stack: Stack, docker_engine: DockerEngine, app_id: str
) -> None:
    """The value reaches the container, and no log, rendered field, XCom, DAG or label has it.

    The LocalExecutor writes what a task logs to the output of the scheduler.
    """
    task = launch("whisper")
    task.wait_for("success")

    (row, *_) = docker_engine.rows({labels.RUN_ID: app_id})
    assert BACKWARDS == task.xcom("return_value")
    echo = stack.scheduler.text()
    for replica in range(2):
        plain, upper, encoded = task.lines("worker", replica)
        assert ["the word is ***"] * 2 == [plain, upper]
        assert encoded.startswith("the word is dXNlcj")
    assert "the word is ***" in echo
    for shown in (task.text(), echo):
        assert SECRET not in shown
        assert SECRET.upper() not in shown
        assert "vcGVuLXNlc2FtZ" not in shown
    assert SECRET not in str(row)


@pytest.mark.docker
def test_exception(one_task: OneTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An app that fails and wrote the value, or a proxy, into its log hides it in its error."""
    proxies = {"default": {"httpProxy": "http://me:mum-is-the-word@proxy"}}
    (tmp_path / "config.json").write_text(json.dumps({"proxies": proxies}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    app = shell('echo "the word is $MAGIC_WORD, the proxy $HTTP_PROXY"; exit 1')

    ended = one_task.run(app=app, private_env=PRIVATE_ENV)

    assert "the word is ***, the proxy http://***@proxy" in str(ended.error)
    assert SECRET not in str(ended.error)
    assert "a ***" == redact("a mum-is-the-word")


@pytest.mark.parametrize(
    ("private_env", "told"),
    [
        (
            {"WORD": f"{{% {SECRET} %}}"},
            "private_env: it is not accepted; correct the template of 'WORD'",
        ),
        (
            {"WORD": f"{SECRET}{{{{ nothing.{SECRET} }}}}"},
            "correct the template of 'WORD' (UndefinedError)",
        ),
        ({f"A={SECRET}": "b"}, "private_env: it is not accepted; rename 'A=…': a name cannot"),
        ({"": SECRET}, "private_env: it is not accepted; entry '' needs strings"),
    ],
    ids=["syntax", "undefined", "equals", "empty"],
)
def test_a_variable_that_cannot_be_used(private_env: dict[str, str], told: str) -> None:
    """A template or name that cannot be used fails the task with an error without the value."""
    stage = Stage(private_env=private_env)

    with capture_logs() as logs:
        ended = stage.run()

    assert told in str(ended.error)
    assert ended.error is not None
    assert SECRET not in "".join(traceback.format_exception(ended.error))
    assert SECRET not in str([log for log in logs if log["log_level"] != "debug"])
    assert 0 == stage.created


@pytest.mark.parametrize("exit_code", [0, 3])
def test_what_the_task_logs(exit_code: int) -> None:
    """No line of the task's process has a value that Airflow knows to mask, in no form of it."""
    known = "known-to-airflow"
    mask_secret(known)
    encoded = b64encode(f"user:{SECRET}".encode()).decode()
    lines = [f"the words are {known}, {SECRET}", SECRET.upper(), encoded]
    program = Program(lines=lines, exit_code=exit_code, files={"/result.json": b"7"})
    stage = Stage(program, env={"KNOWN": known}, private_env=PRIVATE_ENV)

    with capture_logs() as logs:
        ended = stage.run()

    told = f"{logs} {ended.error}"
    assert "the words are ***, ***" in told
    for secret in (known, SECRET, SECRET.upper(), encoded):
        assert secret not in told


def test_what_the_daemon_says(caplog: pytest.LogCaptureFixture) -> None:
    """Lines about images and tracebacks are masked before they are logged, as the plan is."""
    caplog.set_level("DEBUG", "airflow_torchx")
    stage = Stage(image=f"hub/{SECRET}", private_env=PRIVATE_ENV)

    ended = stage.run()

    assert "pulling image hub/***" in caplog.messages
    assert "cannot pull image hub/***" in str(ended.error)
    assert "ImagePullError: cannot pull image hub/***" in caplog.text
    assert SECRET not in caplog.text


def test_a_warning_about_the_plan() -> None:
    """A warning is masked before it is logged, as the plan is."""
    stage = Stage(private_env=PRIVATE_ENV)
    stage.task.app = to_dict(shell("true", mount=Path(f"/{SECRET}")))
    info = stage.engine.engine_info
    stage.engine.engine_info = replace(info, url="unix:///run/docker.sock", is_local=False)

    with capture_logs() as logs:
        stage.run()

    assert "mounts[0].src_path: '/***' is not checked" in str(logs)
    assert SECRET not in str(logs)


def test_dry_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run prints the plan without the value, and needs no daemon."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    app = shell("true")

    task = TorchXDockerOperator(task_id="gang", app=app, private_env={"MAGIC_WORD": SECRET})
    task.dry_run()

    printed = capsys.readouterr().out
    assert "MAGIC_WORD: '***'" in printed
    assert "image: airflow-torchx/busybox:local" in printed
    assert SECRET not in printed
