"""The request that creates a clone of a container."""

from __future__ import annotations

from airflow_torchx.docker_engine.clone import clone_json


def test_a_default_host_name_is_not_copied() -> None:
    """A host name that Docker derived from the id is not passed on."""
    found = {
        "Id": "0123456789abcdef",
        "Config": {"Hostname": "0123456789ab", "Env": None, "Labels": None},
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"Networks": {"bridge": {"Aliases": ["0123456789ab"]}}},
    }

    body = clone_json(found, image="busybox", labels={"a": "1"}, env={"B": "2"})

    expected = {
        "Image": "busybox",
        "Labels": {"a": "1"},
        "Env": ["B=2"],
        "HostConfig": {"NetworkMode": "bridge"},
    }
    assert expected == body
