"""Tests the messages about a command line that cannot be parsed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx.cli import dispatch, screen
from airflow_torchx.cli.commands import COMMANDS
from airflow_torchx.cli.dispatch import main
from airflow_torchx.errors import GpuWaitTimeoutError

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

_NO_APP = "the following arguments are required: SCHEDULER://SESSION/APP_ID"


def message(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Return the message of a command line that is refused, after its usage."""
    with pytest.raises(SystemExit) as exited:
        main(argv)

    assert 2 == exited.value.code
    return capsys.readouterr().err.partition("error: ")[2].rstrip("\n")


@pytest.mark.parametrize("option", ["--hlep", "--HELP", "--hepl"])
@pytest.mark.parametrize("command", [None, *(one.name for one in COMMANDS)])
def test_misspelled_help(
    command: str | None, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command suggests --help, even if an argument is missing as well."""
    text = message(capsys, *filter(None, [command, option]))

    assert f"unexpected argument {option}; did you mean --help?" == text.splitlines()[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run --image", "unexpected argument --image; options of a component come after its name"),
        ("run --log_level INFO a", "unexpected argument --log_level; write it before run"),
        ("--dryrun run utils.sh", "unexpected argument --dryrun; write it after run"),
        ("--vresion", "unexpected argument --vresion; did you mean --version?"),
        (
            "status --rolse",
            f"unexpected argument --rolse; did you mean --roles?\n{_NO_APP}",
        ),
        ("delete", _NO_APP),
        ("run -help", "unexpected argument; did you mean --help?"),
        ("help", "argument COMMAND: unknown value 'help'; did you mean --help?"),
        ("statsu", "argument COMMAND: unknown value 'statsu'; did you mean 'status'?"),
    ],
)
def test_what_to_write_instead(
    line: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown argument is named with what may be meant, or where it belongs."""
    assert expected == message(capsys, *line.split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run --stdin", "unexpected argument --stdin"),
        ("run --buck-target=x", "unexpected argument --buck-target"),
        ("configure", "argument COMMAND: unknown value 'configure'"),
        ("tracker list", "argument COMMAND: unknown value 'tracker'"),
        ("run -s slurm utils.echo", "argument -s/--scheduler: unknown value 'slurm'"),
        ("runopts local_cwd", "argument scheduler: unknown value 'local_cwd'"),
    ],
)
def test_what_only_torchx_has(line: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command, an option or a scheduler of TorchX that is not here is named as such."""
    assert message(capsys, *line.split()).startswith(f"{expected}; only TorchX has it; ")


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        (
            "run -cfg nework=host --workspce x utils.echo --msgg x",
            [
                "--workspce;",
                "options.nework",
                "'x' does not exist",
                "--msgg;",
                "--image is missing",
            ],
        ),
        (
            "run --dryrun --jsn utils.echo --msgg x --num_replicas z",
            ["--jsn;", "--msgg;", "--num_replicas: expected a whole number", "--image is missing"],
        ),
        ("run --workspce=x utils.ecko", ["--workspce;", "'x' does not exist", "'utils.ecko'"]),
        ("run --zzzz utils.echo", ["--zzzz;", "component 'utils.echo' has no image"]),
    ],
)
def test_all_mistakes_of_run(
    line: str,
    texts: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One error names the mistakes in the options of ``run`` and in those of the component."""
    monkeypatch.chdir(tmp_path)

    text = message(capsys, *line.split())

    assert [] == [one for one in texts if one not in text]


def test_value_of_an_unknown_option_is_not_a_component(capsys: pytest.CaptureFixture[str]) -> None:
    """What may be the value of an unknown option is not reported as an unknown component."""
    text = message(capsys, "run", "--zzzz", "3", "utils.echo")

    assert "unexpected argument --zzzz; options of a component come after its name" == text


def test_an_error_of_ours_that_is_an_error_of_the_system(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wait that has lasted too long is printed without a traceback."""

    def wait(_: Namespace) -> int:
        raise GpuWaitTimeoutError("waiting for 1 GPU on gpu-1: none is free", timeout_s=60)

    monkeypatch.setattr(dispatch, "function_of", lambda _: wait)
    # It sets the log of the whole process.
    monkeypatch.setattr(screen, "configure", lambda _: None)

    assert 1 == main(["list"])
    assert "gave up after 60 s (gpu_wait_timeout_s), waiting for 1 GPU" in capsys.readouterr().err
