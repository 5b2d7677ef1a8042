"""Tests the request of ``run``."""

from __future__ import annotations

import argparse

import pytest

from airflow_torchx.cli.apps import list_apps
from airflow_torchx.cli.dispatch import main, parser
from airflow_torchx.cli.request import (
    Request,
    build_app,
    build_request,
    ensure_images,
    parent_run_id,
    prepare,
    wants_help,
    with_parent,
)
from airflow_torchx.cli.torchxconfig import TorchXConfig
from airflow_torchx.errors import ComponentError, UsageError

NOTHING = TorchXConfig()


def request_of(*arguments: str, **sections: dict[str, str]) -> Request:
    """Return the request of ``run`` with these arguments and sections of `.torchxconfig`."""
    config = {name.replace("__", ":"): values for name, values in sections.items()}
    return build_request(parser().parse_args(["run", *arguments]), TorchXConfig(config), {})


def test_torchx_command_line() -> None:
    """TorchX's documented command line is accepted."""
    request = request_of(
        *["-s", "docker", "-cfg", "network=n", "dist.ddp", "-j", "1x2", "--script", "train.py"]
    )

    assert ("dist.ddp", ("-j", "1x2", "--script", "train.py")) == (
        request.component,
        request.arguments,
    )
    assert "n" == request.options.network
    assert request.workspace is None


def test_a_swarm() -> None:
    """It has a section and a default network of its own; -s wins over the configuration."""
    sections = {"docker_swarm": {"stop_grace_s": "3"}, "docker": {"stop_grace_s": "4"}}
    asked = request_of("-s", "docker_swarm", "utils.sh", **sections)
    other = request_of("-s", "docker", "utils.sh", cli__run={"scheduler": "docker_swarm"})
    named = request_of("utils.sh", cli__run={"scheduler": "docker_swarm"})
    own = request_of("-s", "docker_swarm", "utils.sh", docker_swarm={"network": "mine"})

    assert ("docker_swarm", 3.0, "torchx-swarm") == (
        asked.scheduler,
        asked.options.stop_grace_s,
        asked.options.network,
    )
    assert ("local_docker", "torchx") == (other.scheduler, other.options.network)
    assert ("docker_swarm", "torchx-swarm") == (named.scheduler, named.options.network)
    assert ("mine", ()) == (own.options.network, own.warnings)


@pytest.mark.parametrize("arguments", [("--", "dist.ddp", "--m", "x"), ("dist.ddp", "--m", "x")])
def test_separator_before_the_component_is_optional(arguments: tuple[str, ...]) -> None:
    """The separator -- before the component is optional, as in TorchX."""
    request = request_of(*arguments)

    assert ("dist.ddp", ("--m", "x")) == (request.component, request.arguments)


def test_configuration_has_the_defaults() -> None:
    """The configuration sets component, workspace and each run option, in any spelling."""
    cli = {"component": "dist.ddp", "workspace": "code", "scheduler": "docker"}
    docker = {"network": "theirs", "stopGraceS": "3", "user": "u", "typo": "1"}
    cfg = ["-cfg", "stop_grace_s=2,user=v"]
    request = request_of(*cfg, "--", "--m", "x", cli__run=cli, docker=docker)

    assert ("dist.ddp", "code") == (request.component, request.workspace)
    assert ("ignoring unknown run option 'typo' in .torchxconfig",) == request.warnings
    assert ("theirs", 2.0, "v") == (
        request.options.network,
        request.options.stop_grace_s,
        request.options.user,
    )


def test_command_line_overrides_the_configuration() -> None:
    """The command line overrides the configuration, even with an empty workspace."""
    cli = {"component": "dist.ddp", "workspace": "code"}

    request = request_of("--workspace", "", "utils.sh", "ls", cli__run=cli)

    assert ("utils.sh", "") == (request.component, request.workspace)


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        ([], ["no component", "dist.ddp", ".torchxconfig"]),
        (["--", "--script", "x"], ["no component"]),
        (["-cfg", "x", "dist.ddp"], ["options: not a list of KEY=VALUE", "runopts"]),
        (["-cfg", "nework=x", "dist.ddp"], ["nework", "'network'", "runopts"]),
        (["-cfg", "env=A,init=maybe,nework=x", "dist.ddp"], ["env=KEY:VALUE", "init", "nework"]),
    ],
)
def test_invalid_arguments(arguments: list[str], texts: list[str]) -> None:
    """One error lists all mistakes and what to write instead."""
    with pytest.raises(UsageError) as caught:
        request_of(*arguments)

    assert [] == [text for text in texts if text not in str(caught.value)]


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (
            ["-cfg", "stop_grace_s=x", "dist.ddp", "-j", "2xx", "--scrpt", "t.py"],
            ["options.stop_grace_s", "did you mean --script?", "got '2xx'"],
        ),
        (
            ["-cfg", "nework=x", "utils.echo"],
            ["options.nework", "component 'utils.echo' has no im"],
        ),
        (["-cfg", "a", "utils.ecko"], ["options: not a list", "unknown component 'utils.ecko'"]),
    ],
)
def test_mistakes_in_options_and_component(arguments: list[str], texts: list[str]) -> None:
    """One error has the mistakes in the run options and in the component's arguments."""
    with pytest.raises(UsageError) as caught:
        request_of(*arguments)

    assert [] == [text for text in texts if text not in str(caught.value)]


def test_missing_workspace_and_mistakes_of_the_component() -> None:
    """A workspace that does not exist is named together with the component's mistakes."""
    request = request_of("--workspace", "nosuch", "dist.ddp", "-j", "2xx", "--script", "a.py")

    with pytest.raises(UsageError) as caught:
        prepare(request, NOTHING)

    texts = ["workspace 'nosuch' does not exist", "got '2xx'", "--image is missing"]
    assert [] == [text for text in texts if text not in str(caught.value)]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["dist.ddp", "--script", "x", "--dryrun"],
            "--dryrun does not belong to the component: pu",
        ),
        (["utils.echo", "--json"], "--json does not belong to the component: put it before"),
        (["utils.sh", "-cfg", "a=b", "ls"], "-cfg does not belong to the component: put it before"),
        (
            ["dist.ddp", "--script=x", "--dry_run"],
            "--dry_run; did you mean --dryrun, before the co",
        ),
    ],
)
def test_option_after_the_component(arguments: list[str], text: str) -> None:
    """An option of ``run`` after the component is an error that says where to put it."""
    with pytest.raises(ComponentError) as caught:
        build_app(request_of(*arguments), NOTHING)

    assert text in str(caught.value)


def test_typos_in_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """What is misspelt in the configuration is warned of, with the nearest known name."""
    sections: dict[str, dict[str, str]] = {
        "docker": {"imageRepo": "r", "image_rep": "r", "zzz": "1"},
        "cli:run": {"workspce": "."},
        "component:utils.echo": {"image": "i", "num_replcas": "2"},
        "component:utils.ecko": {"image": "i"},
        "local_dokcer": {"quiet": "True"},
        "component:mine.py:f": {"x": "1"},
    }
    meant = "[local_docker]?), [component:utils.ecko] (did you mean [component:utils.echo]?)"
    request = request_of("utils.echo", **{k.replace(":", "__"): v for k, v in sections.items()})
    build_app(request, TorchXConfig(sections))

    assert (
        "ignoring unknown run option 'image_rep' (did you mean 'image_repo'?) in .torchxconfig",
        "ignoring unknown run option 'zzz' in .torchxconfig",
        "ignoring 'workspce' (did you mean 'workspace'?) in [cli:run] of .torchxconfig",
        f"sections of .torchxconfig without effect: [local_dokcer] (did you mean {meant}",
    ) == request.warnings
    said = "ignoring 'num_replcas' (did you mean 'num_replicas'?) in [component:utils.echo]"
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["statsu"], "unknown value 'statsu'; did you mean 'status'?"),
        (["zzz"], "unknown value 'zzz'; use one of run, status, log, list"),
        (["dist.ddp", "--script", "x"], "to run a component, write run dist.ddp"),
        (["run", "-s", "dcker", "utils.sh"], "unknown value 'dcker'; did you mean 'docker'?"),
        (["log", "--streams", "stdotu", "a"], "unknown value 'stdotu'; did you mean 'stdout'?"),
        (["run", "--dryrn", "utils.sh"], "unexpected argument --dryrn; did you mean --dryrun?"),
        (["--dryrun", "run", "utils.sh"], "unexpected argument --dryrun; write it after run"),
        (["status", "a", "b"], "unexpected argument b"),
    ],
)
def test_unknown_names(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown command, choice or option is an error with the nearest known name."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert 2 == caught.value.code
    assert text in capsys.readouterr().err


def test_options_of_list_are_checked() -> None:
    """The run options of ``list`` are checked before the daemon is asked."""
    arguments = parser().parse_args(["list", "-cfg", "nework=x,init=maybe"])

    with pytest.raises(UsageError, match=r"(?s)nework.*'network'.*init: 'maybe'"):
        list_apps(arguments)


def test_unknown_scheduler_in_the_configuration() -> None:
    """An unknown scheduler in the configuration is an error."""
    with pytest.raises(UsageError, match=r"'kubernetes'.*; .*docker"):
        request_of("dist.ddp", cli__run={"scheduler": "kubernetes"})


def test_defaults_of_a_component() -> None:
    """Arguments override the configured defaults, and unknown keys are ignored, as in TorchX."""
    config = TorchXConfig(
        {"component:dist.ddp": {"image": "i:1", "j": "3x1", "memMB": "64", "nonsense": "1"}}
    )
    request = request_of("dist.ddp", "-j", "2x1", "--script", "train.py")

    (role,) = build_app(request, config).roles

    assert ("i:1", 2, 64) == (role.image, role.num_replicas, role.resource.memMB)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], "train.py --lr 0.1"), (["--", "--lr", "1"], "train.py --lr 1")],
)
def test_default_arguments_of_the_script(arguments: list[str], expected: str) -> None:
    """Any argument of the script replaces all its configured ones."""
    config = TorchXConfig({"component:dist.ddp": {"script_args": "--lr 0.1", "image": "i"}})

    app = build_app(request_of("dist.ddp", "--script", "train.py", *arguments), config)

    assert app.roles[0].args[1].endswith(expected)


def test_invalid_default_of_a_component() -> None:
    """An invalid default in the configuration is an error of the component."""
    config = TorchXConfig({"component:dist.ddp": {"cpu": "many"}})

    with pytest.raises(ComponentError, match=r"--cpu: expected a (whole )?number"):
        build_app(request_of("dist.ddp", "--script", "x"), config)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--help"], True), (["-h", "gpu.small"], False), (["--", "--help"], False), ([], False)],
)
def test_help_of_a_component(arguments: list[str], expected: bool) -> None:
    """The help is ``--help`` before --; ``-h`` is a named resource."""
    assert expected is wants_help(request_of("dist.ddp", *arguments))


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["utils.echo"], ["--image", "[component:utils.echo]"]),
        (["utils.binary", "--entrypoint", "ls"], ["no option for one", "utils.sh"]),
    ],
)
def test_app_without_an_image(arguments: list[str], texts: list[str]) -> None:
    """The error of a missing image says how to set it."""
    request = request_of(*arguments)

    with pytest.raises(UsageError, match="has no image") as caught:
        ensure_images(build_app(request, TorchXConfig()), request.component)

    assert [] == [text for text in texts if text not in str(caught.value)]


@pytest.mark.parametrize("option", ["--w", "--d", "--s"])
def test_options_of_a_component_are_not_abbreviations(option: str) -> None:
    """An option of a component is never taken for an abbreviation of ours."""
    assert (option, "3") == request_of("train.py:train", option, "3").arguments


def test_parent_run_id() -> None:
    """Every role gets the id of the parent run, and without one the app stays unchanged."""
    app = build_app(request_of("dist.ddp", "--m", "x", "--image", "i"), NOTHING)

    assert "exp-1" == with_parent(app, "exp-1").roles[0].env["TORCHX_PARENT_RUN_ID"]
    assert app is with_parent(app, None)


@pytest.mark.parametrize(
    ("given", "variable", "expected", "is_warned"),
    [
        (None, None, None, False),
        ("mine", None, "mine", False),
        (None, "theirs", "theirs", False),
        ("mine", "theirs", "theirs", True),
        ("mine", "", "", True),
        ("same", "same", "same", False),
    ],
)
def test_variable_of_the_parent_run(
    given: str | None,
    variable: str | None,
    expected: str | None,
    is_warned: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The variable wins over the command line as in TorchX, with a warning if they differ."""
    environ = {} if variable is None else {"TORCHX_PARENT_RUN_ID": variable}

    assert expected == parent_run_id(given, environ)
    assert is_warned == ("ignoring --parent_run_id mine" in capsys.readouterr().err)


@pytest.mark.parametrize(
    "line",
    [
        "run -cfg network=a -cfg network=b",
        "run -cfg network=a --scheduler_args quiet=true",
        "run --workspace docker --workspace local_docker",
        "run --parent_run_id a --parent_run_id b",
        "log --regex a --regex b x",
        "log --since 1h --since 2h x",
        "status --roles a --roles b x",
        "--log_level INFO --log_level DEBUG list",
    ],
)
def test_repeated_flags(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A flag with two different values is an error."""
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(line.split())

    assert 2 == caught.value.code
    assert "given more than once, with different values" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "-cfg env=A:1 --scheduler_args env=A:1",
        "-cfg stopGraceS=3,quiet=true -cfg quiet=True,stop_grace_s=3.0",
        "-cfg quiet=true,quiet=True,stop_grace_s=3,stop_grace_s=3.0",
        "-cfg copy_env=A;B,copy_env=A;B;,env=A:1;B:2,env=B:2;A:1",
        "-s docker --scheduler docker",
        "-s docker --scheduler=local_docker",
        "--workspace x --workspace=x",
        "--parent_run_id a --parent_run_id a",
    ],
)
def test_same_value_twice(line: str) -> None:
    """The same value twice is accepted, in any spelling."""
    request_of(*line.split(), "utils.echo")


def test_every_command_has_its_function() -> None:
    """Every command in the table has a function that exists."""
    from airflow_torchx.cli.commands import COMMANDS
    from airflow_torchx.cli.dispatch import function_of

    assert all(callable(function_of(command)) for command in COMMANDS)
    assert isinstance(parser(), argparse.ArgumentParser)


def test_trackers_of_the_configuration() -> None:
    """The configured trackers are a run option, unless the command line sets its own."""
    sections = {"torchx__tracker": {"a": "a"}, "tracker__a": {"config": "x"}}

    assert {"a": "x"} == request_of("utils.sh", **sections).options.trackers
    own = request_of("-cfg", "trackers=b:", "utils.sh", **sections)
    assert {"b": ""} == own.options.trackers


def test_sections_that_are_not_read() -> None:
    """One warning names all sections that have no effect."""
    request = request_of("utils.sh", kubernetes={"queue": "q"}, tracker__a={"config": "x"})

    (warning,) = request.warnings
    assert "sections of .torchxconfig without effect: [kubernetes], [tracker:a]" == warning


def test_misspelled_trackers() -> None:
    """A misspelled key or section of a tracker is warned of, with the nearest known name."""
    sections = {"torchx__tracker": {"fsspec": "fsspec"}, "tracker__fsspec": {"confg": "x"}}
    key, section = request_of("utils.sh", **sections, tracker__fspec={"config": "x"}).warnings

    assert "ignoring 'confg' (did you mean 'config'?) in [tracker:fsspec] of .torchxconfig" == key
    assert section.endswith("effect: [tracker:fspec] (did you mean [tracker:fsspec]?)")
