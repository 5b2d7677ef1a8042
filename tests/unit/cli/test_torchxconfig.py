"""Tests the precedence and the parsing of `.torchxconfig` files."""

from __future__ import annotations

import pytest

from airflow_torchx.cli.torchxconfig import TorchXConfig, config_paths
from airflow_torchx.errors import UsageError

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
    ("text", "message"),
    [
        ("TOKEN = sesame", "line 1 is outside any section"),
        ("[a]\nTOKEN sesame", "line 2 is neither a section nor a value"),
        ("[a]\nx = sesame%", "x in [a] has an invalid %"),
        ("[a]\nx = sesame%(y)s", "x in [a] has an invalid %"),
        ("[a]\nx = sesame\nx = sesame", "x in [a] is repeated in line 3"),
        ("[a]\nx = sesame\n[a]", "section [a] is repeated in line 3"),
    ],
)
def test_invalid_file(text: str, message: str) -> None:
    """The error shows path, line and the valid form, but no value, which may be secret."""
    with pytest.raises(UsageError, match=r"cannot parse /x/\.torchxconfig: ") as caught:
        TorchXConfig.parse([("/x/.torchxconfig", text)])

    assert message in str(caught.value)
    assert "key = value" in str(caught.value)
    assert "sesame" not in str(caught.value)
