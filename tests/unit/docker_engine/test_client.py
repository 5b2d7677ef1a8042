"""The client of Docker's SDK, without a daemon."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.docker_engine.client import SdkClient

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "content",
    [
        '{"auths": {"https://index.docker.io/v1/": {"auth": ""}}}',
        '{"auths": {"h": "x"}}',
        '{"auths": ["x"]}',
        '{"proxies": ["x"]}',
        '{"proxies": {"default": "x"}}',
        '{"proxies": {"default": null}}',
        '{"HttpHeaders": {"X": 5}}',
        '["x"]',
        '"x"',
        "5",
    ],
)
@pytest.mark.parametrize("url", ["unix:///s", "tcp://h:2375"])
def test_the_docker_configuration_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, url: str
) -> None:
    """No docker configuration stops the client, because it does not read one."""
    (tmp_path / "config.json").write_text(content)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))

    with SdkClient(Endpoint(url=url), "1.41", {"X-Own": b"1"}) as client:
        assert {"X-Own": b"1"}.items() <= dict(client.headers).items()
        assert "1.41" == client.api_version


@pytest.mark.parametrize(
    ("proxy", "sent"),
    [
        ("http://u:p€ss@p:1", "u:p€ss".encode()),
        ("http://u:p%E2%82%ACss@p:1", "u:p€ss".encode()),
        ("http://jürgen:pä%3Aß@p:1", "jürgen:pä:ß".encode()),
        ("http://u:caf\udce9@p:1", b"u:caf\xe9"),
        ("http://u:a%25b@p:1", b"u:a%b"),
        ("u:p€@p:1", "u:p€".encode()),
        ("http://p:1", None),
    ],
)
def test_a_proxy_gets_its_login_in_utf8(
    monkeypatch: pytest.MonkeyPatch, proxy: str, sent: bytes | None
) -> None:
    """The user and the password of an HTTP proxy have any characters, and are sent in UTF-8."""
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("http_proxy", proxy)

    with SdkClient(Endpoint(url="tcp://h:2375"), "1.41", {}) as client:
        chosen = client.proxies["http"]
        headers = client.get_adapter("http://h:2375").proxy_headers(chosen)

    assert "p:1" == urlsplit(chosen).netloc.rpartition("@")[2]
    basic = sent and f"Basic {base64.b64encode(sent).decode()}"
    assert basic == headers.get("Proxy-Authorization")
