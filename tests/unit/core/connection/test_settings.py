"""Tests of the settings in an Airflow connection."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.connection.settings import Settings, daemon_url
from airflow_torchx.errors import InvalidAppError

if TYPE_CHECKING:
    from collections.abc import Mapping


def test_an_empty_connection() -> None:
    """A connection without fields means the daemon of the docker command line."""
    nothing: dict[str, object] = {"tls_ca": "", "network": None, "options": {}, "registries": []}

    assert Settings() == Settings.parse(None, None) == Settings.parse(" ", nothing)
    assert "torchx" == Settings().network


@pytest.mark.parametrize("is_text", [False, True])
def test_every_field(is_text: bool) -> None:
    """Every field is parsed, also from the strings of a connection URI."""
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


@pytest.mark.parametrize("given", [[1, "GPU-a"], ["1", "GPU-a"], "1, GPU-a"])
def test_an_index_of_a_gpu_may_be_a_number(given: object) -> None:
    """The ids of GPUs are strings, however the connection writes them."""
    assert ("1", "GPU-a") == Settings.parse(None, {"gpu_ids": given}).gpu_ids


def test_network_among_the_options() -> None:
    """The network can be given among the run options."""
    assert "host" == Settings.parse(None, {"options": {"network": "host"}}).network


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("{", "extra: not a JSON object; write it like"),
        ("[]", "extra: not a JSON object; write it like"),
        ({"netwrok": "a"}, "extra.netwrok: no such field; did you mean 'network'?"),
        ({"network": "a b"}, "extra.network: invalid value 'a b'; start with a letter or digit"),
        ({"network": 5}, "extra.network: invalid value 5; give a non-empty string"),
        ({"registries": 5}, "extra.registries: invalid value 5; give a list of non-empty"),
        (
            {"registries": ["a", ""]},
            "extra.registries: invalid value ['a', '']; give a list of non-empty",
        ),
        ({"options": [1]}, "extra.options: invalid value; give a mapping of run options"),
        ({"options": "{'user': 1}"}, "extra.options: not a JSON object; write it like"),
        ({"options": {"usr": "me"}}, "extra.options.usr: unknown option; did you mean"),
        ({"options": {"env": "hidden-word"}}, "extra.options.env: a str is not accepted; give"),
        (
            {"options": {"network": "a"}, "network": "b"},
            "extra.options.network: set twice, here and in extra.network; remove one of them",
        ),
        ({"gpu_ids": [True]}, "extra.gpu_ids: invalid value [True]; give a list of non-empty"),
        ({"gpu_ids": 1}, "extra.gpu_ids: invalid value 1; give a list of non-empty"),
        ({"gpu_ids": "GPU-a, all"}, "extra.gpu_ids[1]: 'all' is not the id of a GPU; leave out"),
        ({"gpu_ids": ["1", 1]}, "extra.gpu_ids[1]: '1' may name the same GPU as '1'; list each"),
        ({"api_version": "new"}, "extra.api_version: invalid value 'new'; give a version"),
    ],
)
def test_invalid_fields(extra: str | Mapping[str, object], expected: str) -> None:
    """The error names the invalid field and says what to write."""
    with pytest.raises(InvalidAppError) as raised:
        Settings.parse(None, extra)

    assert [True] == [str(problem).startswith(expected) for problem in raised.value.problems]


def test_one_error_lists_all_problems() -> None:
    """One error lists all problems of a connection."""
    extra = {
        "tls": True,
        "api_version": 1,
        "network": "-",
        "options": {"user": True, "init": 2},
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
        ({"host": "unix:///var/run/docker.sock", "port": 2376}, "unix:///var/run/docker.sock"),
        ({"host": "tcp://gpu-1", "port": 0}, "tcp://gpu-1"),
        ({"host": None, "port": 0}, None),
        ({"host": None, "schema": "var/run/docker.sock"}, "unix:///var/run/docker.sock"),
        ({"host": "gpu-1", "port": 2376}, "gpu-1:2376"),
    ],
)
def test_url_in_parts(parts: dict[str, str], expected: str | None) -> None:
    """The parts of a connection URI make the daemon's URL."""
    assert expected == daemon_url(**parts)  # type: ignore[arg-type]
