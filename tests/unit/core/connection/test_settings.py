"""What a connection says about a daemon and the apps on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.connection.settings import Settings, daemon_url
from airflow_torchx.errors import InvalidAppError

if TYPE_CHECKING:
    from collections.abc import Mapping


def test_empty() -> None:
    """A connection that says nothing means the daemon of the docker command line."""
    nothing: dict[str, object] = {"tls_ca": "", "network": None, "options": {}, "registries": []}

    assert Settings() == Settings.parse(None, None) == Settings.parse(" ", nothing)
    assert "torchx" == Settings().network


@pytest.mark.parametrize("is_text", [False, True])
def test_full(is_text: bool) -> None:
    """Every field is read, also from the texts that a URI has."""
    extra = {
        "api_version": "1.43",
        "network": "training",
        "options": {"stopGraceS": 30, "env": {"A": "1"}},
        "registries": ["ghcr", "hub"],
    }
    if is_text:
        extra |= {"options": json.dumps(extra["options"]), "registries": "ghcr, hub"}

    settings = Settings.parse("tcp://gpu-1", json.dumps(extra) if is_text else extra)

    assert settings.endpoint == Endpoint(url="tcp://gpu-1", api_version="1.43")
    assert settings.options == {"stopGraceS": 30, "env": {"A": "1"}, "network": "training"}
    assert ("training", ("ghcr", "hub")) == (settings.network, settings.registries)


def test_network_among_the_options() -> None:
    """It may be given there as well."""
    assert "host" == Settings.parse(None, {"options": {"network": "host"}}).network


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("{", "extra: is no JSON object; write it like"),
        ("[]", "extra: is no JSON object; write it like"),
        ({"netwrok": "a"}, "extra.netwrok: there is no such field; did you mean 'network'?"),
        ({"network": "a b"}, "extra.network: cannot be 'a b'; begin with a letter or digit"),
        ({"network": 5}, "extra.network: cannot be 5; give a text that is not empty"),
        ({"registries": 5}, "extra.registries: cannot be 5; give a list of texts"),
        ({"registries": ["a", ""]}, "extra.registries: cannot be ['a', '']; give a list of texts"),
        ({"options": [1]}, "extra.options: cannot be this; give a mapping of run options"),
        ({"options": "{'user': 1}"}, "extra.options: is no JSON object; write it like"),
        ({"options": {"usr": "me"}}, "extra.options.usr: there is no such option; did you mean"),
        ({"options": {"env": "hidden-word"}}, "extra.options.env: a str is not accepted; give"),
        (
            {"options": {"network": "a"}, "network": "b"},
            "extra.options.network: is given beside extra.network; leave one of them out",
        ),
        ({"api_version": "new"}, "extra.api_version: cannot be 'new'; give a version"),
    ],
)
def test_wrong_field(extra: str | Mapping[str, object], expected: str) -> None:
    """A field that is wrong is named, with what to write."""
    with pytest.raises(InvalidAppError) as raised:
        Settings.parse(None, extra)

    assert [True] == [str(problem).startswith(expected) for problem in raised.value.problems]


def test_all_problems_at_once() -> None:
    """One round of mending is enough."""
    extra = {
        "tls": True,
        "api_version": 1,
        "network": "-",
        "options": {"user": 1, "init": 2},
        "registries": 3,
    }

    with pytest.raises(InvalidAppError) as raised:
        Settings.parse("gpu-1", extra)

    assert {
        "host",
        "extra.tls",
        "extra.api_version",
        "extra.network",
        "extra.options.user",
        "extra.options.init",
        "extra.registries",
    } == {problem.where for problem in raised.value.problems}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"host": None}, None),
        ({"host": " "}, None),
        ({"host": "tcp://gpu-1:2376"}, "tcp://gpu-1:2376"),
        ({"host": "tcp://gpu-1:2376", "port": 1}, "tcp://gpu-1:2376"),
        ({"host": "tcp://gpu-1", "port": 2376}, "tcp://gpu-1:2376"),
        ({"host": "tcp://[::1]", "port": 2376}, "tcp://[::1]:2376"),
        ({"host": "https://h", "port": 1, "schema": "prefix"}, "https://h:1/prefix"),
        ({"host": "ssh://gpu-1", "login": "me", "port": 22}, "ssh://me@gpu-1:22"),
        ({"host": "ssh://me@gpu-1", "login": "you"}, "ssh://me@gpu-1"),
        ({"host": "tcp://gpu-1", "login": "me"}, "tcp://gpu-1"),
        ({"host": "unix:///var/run/docker.sock"}, "unix:///var/run/docker.sock"),
        ({"host": None, "schema": "var/run/docker.sock"}, "unix:///var/run/docker.sock"),
        ({"host": "gpu-1", "port": 2376}, "gpu-1:2376"),
    ],
)
def test_url_in_parts(parts: dict[str, str], expected: str | None) -> None:
    """A connection that is written as a URI comes in parts."""
    assert expected == daemon_url(**parts)  # type: ignore[arg-type]
