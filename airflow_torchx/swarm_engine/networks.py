"""The overlay networks of a swarm."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow_torchx.core.engine.containers import NetworkRow
from airflow_torchx.core.engine.labels import OWN_PREFIX
from airflow_torchx.core.engine.times import parse_time
from airflow_torchx.errors import EngineNotFoundError
from airflow_torchx.swarm_engine.managers import filters

if TYPE_CHECKING:
    from airflow_torchx.core.connection.swarm import Swarm
    from airflow_torchx.swarm_engine.managers import Managers

#: Marks networks that this package created.
_LABEL: Final = f"{OWN_PREFIX}network"


def named(managers: Managers, name: str) -> tuple[NetworkRow, ...]:
    """Return the networks of the whole swarm with exactly this name."""
    params = filters({"name": [name]})
    found = managers.json("GET", "/networks", f"list networks {name!r}", params=params)
    return tuple(
        NetworkRow(id=one["Id"], name=one["Name"], created_at=_time(one.get("Created")))
        for one in found
        if one["Name"] == name and one.get("Scope") == "swarm"
    )


def create(managers: Managers, name: str, swarm: Swarm) -> str:
    """Create an overlay network, as a connection wants it, and return its id."""
    body: dict[str, Any] = {
        "Name": name,
        "Driver": "overlay",
        "Attachable": True,
        "Labels": {_LABEL: "1"},
        "Options": {"com.docker.network.driver.mtu": str(swarm.mtu)} if swarm.mtu else {},
    }
    if swarm.subnet:
        body["IPAM"] = {"Config": [{"Subnet": swarm.subnet}]}
    what = f"create network {name!r}"
    return str(managers.json("POST", "/networks/create", what, json=body)["Id"])


def remove(managers: Managers, network_id: str) -> None:
    """Remove a network by id, if it still exists."""
    with suppress(EngineNotFoundError):
        path, what = f"/networks/{quote(network_id)}", f"remove network {network_id!r}"
        managers.send("DELETE", path, what)


def _time(text: str | None) -> datetime:
    return parse_time(text) or datetime.fromtimestamp(0, UTC)
