"""Creation of a container with the configuration of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.docker_engine.responses import short_id
from airflow_torchx.errors import EngineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.docker_engine.request import Client

    Json = Mapping[str, Any]

#: What a request can set of a container's endpoint on a network; the rest is its current state.
_ENDPOINT: Final = ("IPAMConfig", "Links", "Aliases", "DriverOpts")
#: The Engine refuses these for a container that joins the network of another one.
_OF_OWN_NETWORK: Final = ("Hostname", "Domainname", "ExposedPorts")
_SHORT_ID: Final = 12


def clone(
    client: Client,
    url: str,
    container_id: str,
    name: str,
    labels: Mapping[str, str],
    env: Mapping[str, str],
) -> str:
    """Create a container configured like another one, and return its id; see `Engine.clone`.

    Raises:
        EngineConflictError: the name is taken.
        EngineNotFoundError: the container, its image or its network does not exist.
    """
    with engine_errors(f"inspect container {short_id(container_id)}", url):
        found = client.inspect_container(container_id)
    image = _image(client, url, found)
    with engine_errors(f"create container {name!r}", url):
        body = clone_json(found, image=image, labels=labels, env=env)
        return str(client.create_container_from_config(body, name)["Id"])


def clone_json(
    found: Json, *, image: str, labels: Mapping[str, str], env: Mapping[str, str]
) -> dict[str, Any]:
    """Return the body of ``POST /containers/create`` for a container like an inspected one.

    An anonymous volume is a path without a source in the configuration, so the new container gets
    a volume of its own.
    """
    config, host = dict(found["Config"]), dict(found["HostConfig"])
    # Docker gives a container without a host name the beginning of its id.
    if config.get("Hostname") == found["Id"][:_SHORT_ID]:
        config.pop("Hostname")
    mode = host.get("NetworkMode") or ""
    if mode.startswith("container:"):
        for field in _OF_OWN_NETWORK:
            config.pop(field, None)
    endpoint = ((found.get("NetworkSettings") or {}).get("Networks") or {}).get(mode) or {}
    given = _given(endpoint, found["Id"])
    return {
        **config,
        "Image": image,
        "Labels": {**(config.get("Labels") or {}), **labels},
        "Env": _with(config.get("Env") or [], env),
        "HostConfig": host,
        **({"NetworkingConfig": {"EndpointsConfig": {mode: given}}} if given else {}),
    }


def _image(client: Client, url: str, found: Json) -> str:
    """Return the name of a container's image if it is still that image, else the image's id."""
    name, image_id = str(found["Config"]["Image"]), str(found["Image"])
    try:
        with engine_errors(f"find image {name!r}", url):
            is_same = client.inspect_image(name)["Id"] == image_id
    except EngineNotFoundError:
        is_same = False
    return name if is_same else image_id


def _given(endpoint: Json, container_id: str) -> dict[str, Any]:
    given = {field: endpoint[field] for field in _ENDPOINT if endpoint.get(field)}
    # Engines before 25 list the beginning of the container's own id, too.
    aliases = [one for one in given.pop("Aliases", ()) if one != container_id[:_SHORT_ID]]
    return given | ({"Aliases": aliases} if aliases else {})


def _with(variables: list[str], env: Mapping[str, str]) -> list[str]:
    """Return variables, like ``NAME=value``, of which some have another value."""
    kept = [one for one in variables if one.partition("=")[0] not in env]
    return [*kept, *(f"{name}={value}" for name, value in env.items())]
