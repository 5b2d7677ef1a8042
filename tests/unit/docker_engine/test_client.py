"""The client of Docker's SDK, without a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
