"""Tests the messages about a command line that cannot be parsed."""

from __future__ import annotations

import pytest

from airflow_torchx.cli.commands import COMMANDS
from airflow_torchx.cli.dispatch import main

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
