"""Tests the command run on the fake engine."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from airflow_torchx.cli import run
from airflow_torchx.cli.request import workspace_of
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.errors import EngineError, UsageError
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.testing import FakeEngine
from tests.unit.apps import app


@pytest.mark.parametrize(
    ("failures", "message"), [(0, "Nothing was left"), (9, "Run `docker rm -f app-")]
)
def test_interrupted_twice(failures: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """After a second signal during a launch, the command prints what is left on the daemon."""
    engine = FakeEngine(images=["busybox"])
    engine.fail_next("start", KeyboardInterrupt())
    engine.fail_next("remove", EngineError("busy"), times=failures)

    code = run._run(DockerScheduler("t", engine), app(), Opts(), Namespace(detach=False))  # noqa: SLF001

    assert 130 == code
    assert message in capsys.readouterr().err


def test_end_of_a_run_says_how_to_remove_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The last lines of a run are the command that removes the containers, which are kept."""
    engine = FakeEngine(images=["busybox"])

    code = run._run(  # noqa: SLF001
        DockerScheduler("t", engine), app(), Opts(), Namespace(json=False, detach=False)
    )

    printed = capsys.readouterr()
    app_id = printed.out.strip().rpartition("/")[2]
    assert 0 == code
    assert printed.err.endswith(
        f"\n\nits containers are kept; remove them:\n  airflow-torchx delete {app_id}\n"
    )


@pytest.mark.parametrize(
    ("names", "is_taken"),
    [([], False), ([".git", ".venv"], False), ([".git", "a.py"], True), ([".dockerignore"], True)],
)
def test_default_workspace(
    names: list[str], is_taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default is the current folder, or none if it has only what is left out."""
    monkeypatch.chdir(tmp_path)
    for name in names:
        Path(name).touch()

    assert (str(tmp_path) if is_taken else "") == workspace_of(None)


@pytest.mark.parametrize("name", [".ssh", "venv"])
def test_folders_that_are_no_default(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of secrets or junk is taken only if the user names it."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "id_rsa").touch()
    monkeypatch.chdir(tmp_path / name)

    with pytest.raises(UsageError, match=f"{name} cannot be the workspace"):
        workspace_of(None)

    assert "." == workspace_of(".")
