"""What ``run`` is asked for."""

from __future__ import annotations

import argparse

import pytest

from airflow_torchx.cli.dispatch import parser
from airflow_torchx.cli.request import (
    Request,
    app_of,
    ensure_images,
    requested,
    wants_help,
    with_parent,
)
from airflow_torchx.cli.torchxconfig import TorchXConfig
from airflow_torchx.errors import ComponentError, UsageError

NOTHING = TorchXConfig()


def asked(*words: str, **sections: dict[str, str]) -> Request:
    """Return what ``run`` with these words means, with a `.torchxconfig` of these sections."""
    named = {name.replace("__", ":").replace("_DOT_", "."): text for name, text in sections.items()}
    return requested(parser().parse_args(["run", *words]), TorchXConfig(named))


def test_torchx_words() -> None:
    """The line that everybody knows."""
    request = asked(
        *["-s", "docker", "-cfg", "network=n", "dist.ddp", "-j", "1x2", "--script", "train.py"]
    )

    assert ("dist.ddp", ("-j", "1x2", "--script", "train.py")) == (request.component, request.words)
    assert "n" == request.options.network
    assert request.workspace is None


@pytest.mark.parametrize("words", [("--", "dist.ddp", "--m", "x"), ("dist.ddp", "--m", "x")])
def test_a_separator_before_the_component_may_be_left_out(words: tuple[str, ...]) -> None:
    """As in TorchX."""
    request = asked(*words)

    assert ("dist.ddp", ("--m", "x")) == (request.component, request.words)


def test_the_configuration_speaks_where_the_command_line_is_silent() -> None:
    """Component, workspace and run options; each option by itself, in any spelling."""
    cli = {"component": "dist.ddp", "workspace": "code", "scheduler": "docker"}
    docker = {"network": "theirs", "stopGraceS": "3", "user": "u", "typo": "1"}
    request = asked("-cfg", "stop_grace_s=2,user=v", "--", "--m", "x", cli__run=cli, docker=docker)

    assert ("dist.ddp", "code", ("typo",)) == (
        request.component,
        request.workspace,
        request.unknown,
    )
    assert ("theirs", 2.0, "v") == (
        request.options.network,
        request.options.stop_grace_s,
        request.options.user,
    )


def test_the_command_line_wins_over_the_configuration() -> None:
    """Also with an empty text, which is no workspace."""
    cli = {"component": "dist.ddp", "workspace": "code"}

    request = asked("--workspace", "", "utils.sh", "ls", cli__run=cli)

    assert ("utils.sh", "") == (request.component, request.workspace)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], ["no component", "dist.ddp", ".torchxconfig"]),
        (["--", "--script", "x"], ["no component"]),
        (["-cfg", "x", "dist.ddp"], ["-cfg is no list of KEY=VALUE", "runopts"]),
        (["-cfg", "nework=x", "dist.ddp"], ["nework", "'network'", "runopts"]),
        (["-cfg", "env=A,init=maybe,nework=x", "dist.ddp"], ["env=KEY:VALUE", "init", "nework"]),
    ],
)
def test_what_is_wrong_is_told_at_once(words: list[str], told: list[str]) -> None:
    """What, and what to write instead."""
    with pytest.raises(UsageError) as caught:
        asked(*words)

    assert [] == [text for text in told if text not in str(caught.value)]


def test_an_unknown_scheduler_in_the_configuration_is_an_error() -> None:
    """`argparse` looks at the command line only."""
    with pytest.raises(UsageError, match=r"'kubernetes'.*\n.*docker"):
        asked("dist.ddp", cli__run={"scheduler": "kubernetes"})


def test_defaults_of_a_component() -> None:
    """Under what is given; a key that is no parameter is left out, as in TorchX."""
    config = TorchXConfig(
        {"component:dist.ddp": {"image": "i:1", "j": "3x1", "memMB": "64", "nonsense": "1"}}
    )
    request = asked("dist.ddp", "-j", "2x1", "--script", "train.py")

    (role,) = app_of(request, config).roles

    assert ("i:1", 2, 64) == (role.image, role.num_replicas, role.resource.memMB)


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], "train.py --lr 0.1"), (["--", "--lr", "1"], "train.py --lr 1")],
)
def test_default_arguments_of_the_program(words: list[str], expected: str) -> None:
    """Count only if none is given."""
    config = TorchXConfig({"component:dist.ddp": {"script_args": "--lr 0.1", "image": "i"}})

    app = app_of(asked("dist.ddp", "--script", "train.py", *words), config)

    assert app.roles[0].args[1].endswith(expected)


def test_a_wrong_argument_of_a_component_is_its_error() -> None:
    """From whichever it comes, command line or configuration."""
    config = TorchXConfig({"component:dist.ddp": {"cpu": "many"}})

    with pytest.raises(ComponentError, match=r"--cpu: expected a (whole )?number"):
        app_of(asked("dist.ddp", "--script", "x"), config)


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["--help"], True), (["-h", "gpu.small"], False), (["--", "--help"], False), ([], False)],
)
def test_help_of_a_component(words: list[str], expected: bool) -> None:
    """``-h`` is the named resource, and the program may have a help of its own."""
    assert expected is wants_help(asked("dist.ddp", *words))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["utils.echo"], ["--image", "[component:utils.echo]"]),
        (["utils.binary", "--entrypoint", "ls"], ["takes none here", "utils.sh"]),
    ],
)
def test_an_app_without_an_image(words: list[str], told: list[str]) -> None:
    """How it gets one is told."""
    request = asked(*words)

    with pytest.raises(UsageError, match="has no image") as caught:
        ensure_images(app_of(request, TorchXConfig()), request.component)

    assert [] == [text for text in told if text not in str(caught.value)]


@pytest.mark.parametrize("option", ["--w", "--d", "--s"])
def test_options_of_a_component_are_not_ours_cut_short(option: str) -> None:
    """They stand behind its name."""
    assert (option, "3") == asked("train.py:train", option, "3").words


def test_the_run_that_it_belongs_to() -> None:
    """Every role is told; without one, nothing changes."""
    app = app_of(asked("dist.ddp", "--m", "x", "--image", "i"), NOTHING)

    assert "exp-1" == with_parent(app, "exp-1").roles[0].env["TORCHX_PARENT_RUN_ID"]
    assert app is with_parent(app, None)


@pytest.mark.parametrize("flag", ["-s", "-cfg", "--workspace", "--parent_run_id"])
def test_flags_are_given_once(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A second one would silently win."""
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["run", flag, "docker", flag, "docker"])

    assert 2 == caught.value.code
    assert "is given more than once" in capsys.readouterr().err


def test_every_command_has_its_function() -> None:
    """The table names what is there."""
    from airflow_torchx.cli.commands import COMMANDS
    from airflow_torchx.cli.dispatch import function_of

    assert all(callable(function_of(command)) for command in COMMANDS)
    assert isinstance(parser(), argparse.ArgumentParser)
