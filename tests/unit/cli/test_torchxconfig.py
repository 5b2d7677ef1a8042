"""Tests the precedence and the parsing of `.torchxconfig` files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.cli.torchxconfig import TorchXConfig, config_paths
from airflow_torchx.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

HOME = """
[local_docker]
network = home

[component:dist.ddp]
image = home:1
"""
HERE = """
[docker]
env = A:1
[local_docker]
network = here
privileged = True
[cli:run]
component = dist.ddp
[component:dist.ddp]
image = here:1
memMB = 512
"""


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ("/home/me/.torchxconfig", "/code/.torchxconfig")),
        ({"TORCHXCONFIG": "/etc/mine"}, ("/etc/mine",)),
        ({"TORCHXCONFIG": ""}, ()),
    ],
)
def test_config_paths(environ: dict[str, str], expected: tuple[str, ...]) -> None:
    """The home folder comes before the current folder, and TORCHXCONFIG replaces both."""
    assert expected == config_paths(environ, "/home/me", "/code")


def test_home_is_the_current_folder() -> None:
    """A home folder that is also the current folder is listed once."""
    assert ("/home/me/.torchxconfig",) == config_paths({}, "/home/me", "/home/me")


def test_first_file_wins() -> None:
    """The first file with a key wins, later files add keys, and keys keep their case."""
    config = TorchXConfig.parse([("home", HOME), ("here", HERE)])

    assert {"image": "home:1", "memMB": "512"} == config.component("dist.ddp")
    assert {"component": "dist.ddp"} == config.command("run")
    assert {} == config.component("utils.sh") == config.command("list")


@pytest.mark.parametrize("name", ["docker", "local_docker"])
def test_scheduler_sections_are_merged(name: str) -> None:
    """The sections docker and local_docker belong to one scheduler."""
    config = TorchXConfig.parse([("home", HOME), ("here", HERE)])

    assert {"network": "home", "privileged": "True", "env": "A:1"} == config.scheduler(name)


def test_requested_scheduler_section_wins() -> None:
    """The section of the requested name wins over the other."""
    config = TorchXConfig({"docker": {"user": "a"}, "local_docker": {"user": "b"}})

    assert ("a", "b") == tuple(config.scheduler(n)["user"] for n in ("docker", "local_docker"))


@pytest.mark.parametrize(
    "text", ["TOKEN = sesame", "# a\n\nTOKEN = sesame\n[a]", "[a\nTOKEN = sesame", "a]\n[b]\n[b]"]
)
def test_line_outside_any_section(text: str) -> None:
    """A line above all sections stops everything; the error has its number, but not its value."""
    line = next(n for n, line in enumerate(text.split("\n"), 1) if line and line[0] != "#")

    with pytest.raises(UsageError, match=rf"cannot parse f: line {line} is outside any") as caught:
        TorchXConfig.parse([("f", text)])

    assert "key = value" in str(caught.value)
    assert "sesame" not in str(caught.value)


#: What reads a section, by the section; nothing reads the last one.
READERS: Final[dict[str, Callable[[TorchXConfig], object]]] = {
    "docker": lambda config: config.scheduler("docker"),
    "cli:run": lambda config: config.command("run"),
    "component:a": lambda config: config.component("a"),
    "torchx:tracker": lambda config: config.trackers({}),
    "kubernetes": lambda _: True,
}


#: Lines of an invalid section, and what the error says of it.
BROKEN: Final = {
    "x = sesame%": "x in [{}] has an invalid % in line {}",
    "x = sesame%(y)s": "x in [{}] has an invalid % in line {}",
    "x = 1\nTOKEN sesame": "line {1} is neither a section nor a value",
    "x = 1\nTOKEN": "line {1} is neither a section nor a value",
    "x = 1\n= sesame": "line {1} is neither a section nor a value",
    "x = 1\n<<<<<<< HEAD": "line {1} is neither a section nor a value",
    "x = 1\n[sesame": "line {1} is neither a section nor a value",
    "x = sesame\nx = open": "x in [{}] is repeated in line {}",
    "x = sesame\n[a]\nx = 1\n[{}]": "section [{}] is repeated in line {}",
    "x = 1\ny = \udcfc": "line {1} is not UTF-8",
}


@pytest.mark.parametrize("lines", BROKEN)
@pytest.mark.parametrize("broken", READERS)
def test_invalid_section(broken: str, lines: str) -> None:
    """An invalid section stops only what reads it; the error has file and line, but no value."""
    text = "\n".join(
        f"[{name}]\n{lines.replace('{}', name) if name == broken else 'x = 1'}" for name in READERS
    )
    config = TorchXConfig.parse([("/x/.torchxconfig", text)])

    assert all(read(config) for name, read in READERS.items() if name != broken)
    assert broken in config.sections
    if broken == "kubernetes":
        return
    with pytest.raises(UsageError) as caught:
        READERS[broken](config)
    last = text.split("\n").index(f"[{broken}]") + 1 + len(lines.split("\n"))
    problem = BROKEN[lines].format(broken, last)
    assert f"cannot parse /x/.torchxconfig: {problem}" == caught.value.what
    assert "% as %%" in caught.value.fix


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[DEFAULT]\nx = 1\n[docker]\n[b]\nx = %\n", {"x": "1"}),
        ("[docker]\nx = [\n  [1]\n  [2]\n  ]\n[b]\n[b]", {"x": "[\n[1]\n[2]\n]"}),
        ("  [docker]\n  x = 1\n\n  [b]\n  y", {"x": "1"}),
        ("\t[docker]\n\tx\t=\t1\n\t[b]\n\ty", {"x": "1"}),
        ("# a\n; b\n\n[docker] # c\nx: 1\n# d\n[b]\ny", {"x": "1"}),
        ("[docker]\nx = 1\n\ty\n[b]\nx = 1\nx = 1", {"x": "1\ny"}),
        ("[docker]\ny = 1\nx = %(y)s\n[b]\nx = %(y)s", {"y": "1", "x": "1"}),
    ],
)
def test_section_beside_an_invalid_one(text: str, expected: dict[str, str]) -> None:
    """Defaults, lists over several lines, comments and tabs are read as TorchX reads them."""
    config = TorchXConfig.parse([("f", text)])

    assert expected == config.section("docker")
    assert "b" in config.sections


def test_spellings_of_an_option() -> None:
    """The first file with an option wins, however the others spell it."""
    files = [("home", "[docker]\ncopyEnv = A"), ("here", "[local_docker]\ncopy_env = B\nuser = u")]

    merged = TorchXConfig.parse([files[0], ("here", files[1][1].replace("local_", ""))])

    assert {"copyEnv": "A", "user": "u"} == merged.scheduler("docker")
    assert {"copyEnv": "A", "user": "u"} == TorchXConfig.parse(files).scheduler("docker")
    assert {"copy_env": "B", "user": "u"} == TorchXConfig.parse(files).scheduler("local_docker")


TRACKERS = {
    "torchx:tracker": {"mlflow": "mlflow", "Runs": "my.module:create"},
    "tracker:Runs": {"config": "s3://runs"},
    "tracker:wandb": {"config": "team"},
    "tracker:mlflow": {"configs": "typo"},
}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, {"mlflow": "", "Runs": "s3://runs"}),
        ({"TORCHX_TRACKER_RUNS_CONFIG": "x"}, {"mlflow": "", "Runs": "x"}),
        ({"TORCHX_TRACKER_RUNS_CONFIG": ""}, {"mlflow": "", "Runs": ""}),
        ({"TORCHX_TRACKER_WANDB_CONFIG": "x"}, {"mlflow": "", "Runs": "s3://runs"}),
        ({"TORCHX_TRACKERS": "wandb, new"}, {"wandb": "team", "new": ""}),
        ({"TORCHX_TRACKERS": "new", "TORCHX_TRACKER_NEW_CONFIG": "x"}, {"new": "x"}),
        ({"TORCHX_TRACKERS": ""}, {}),
    ],
)
def test_trackers(environ: dict[str, str], expected: dict[str, str]) -> None:
    """Names and configurations of trackers come from the file, and variables win, as in TorchX."""
    assert expected == TorchXConfig(TRACKERS).trackers(environ)


def test_sections_without_effect() -> None:
    """Sections of other schedulers, other commands and other trackers have no effect."""
    read: dict[str, dict[str, str]] = {
        name: {} for name in ("docker", "local_docker", "cli:run", "component:a.py:b")
    }
    unread = ["kubernetes", "cli:status", "torchx:trackers", "components:dist.ddp", "Docker"]
    config = TorchXConfig({**TRACKERS, **read, **{name: {} for name in unread}})

    assert ["tracker:wandb", *unread] == config.without_effect({})
    assert ["tracker:Runs", "tracker:mlflow", *unread] == config.without_effect(
        {"TORCHX_TRACKERS": "wandb"}
    )
