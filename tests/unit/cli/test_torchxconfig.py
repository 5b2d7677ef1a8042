"""Which `.torchxconfig` is believed, and what it says."""

from __future__ import annotations

import pytest

from airflow_torchx.cli.torchxconfig import TorchXConfig, places
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
def test_places(environ: dict[str, str], expected: tuple[str, ...]) -> None:
    """The user's own goes before the folder's, and TORCHXCONFIG takes the place of both."""
    assert expected == places(environ, "/home/me", "/code")


def test_a_file_counts_once_at_home() -> None:
    """Where the current folder is the user's home."""
    assert ("/home/me/.torchxconfig",) == places({}, "/home/me", "/home/me")


def test_the_first_file_that_has_a_key_is_believed() -> None:
    """Of one section, the others add what it does not say; keys keep their case."""
    config = TorchXConfig.parse([("home", HOME), ("here", HERE)])

    assert {"image": "home:1", "memMB": "512"} == config.component("dist.ddp")
    assert {"component": "dist.ddp"} == config.command("run")
    assert {} == config.component("utils.sh") == config.command("list")


@pytest.mark.parametrize("name", ["docker", "local_docker"])
def test_both_names_of_the_scheduler_are_read(name: str) -> None:
    """They are one scheduler."""
    config = TorchXConfig.parse([("home", HOME), ("here", HERE)])

    assert {"network": "home", "privileged": "True", "env": "A:1"} == config.scheduler(name)


def test_the_section_of_the_name_that_is_used_wins() -> None:
    """Where both say something."""
    config = TorchXConfig({"docker": {"user": "a"}, "local_docker": {"user": "b"}})

    assert ("a", "b") == tuple(config.scheduler(n)["user"] for n in ("docker", "local_docker"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("TOKEN = sesame", "line 1 stands in no section"),
        ("[a]\nTOKEN sesame", "line 2 is neither a section nor a value"),
        ("[a]\nx = sesame%", "x in [a] has a %"),
        ("[a]\nx = sesame%(y)s", "x in [a] has a %"),
        ("[a]\nx = sesame\nx = sesame", "x is there twice in [a], again in line 3"),
        ("[a]\nx = sesame\n[a]", "section [a] is there twice, again in line 3"),
    ],
)
def test_a_broken_file_is_told_by_its_path(text: str, told: str) -> None:
    """And where in it, with what the form is; no value is told, which may be a secret."""
    with pytest.raises(UsageError, match=r"/x/\.torchxconfig cannot be read") as caught:
        TorchXConfig.parse([("/x/.torchxconfig", text)])

    assert told in str(caught.value)
    assert "key = value" in str(caught.value)
    assert "sesame" not in str(caught.value)
