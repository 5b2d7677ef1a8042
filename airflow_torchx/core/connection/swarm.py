"""Parses how to reach and use a Docker Swarm from an Airflow connection."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_torchx.core.connection.endpoint import invalid_value, url_problem
from airflow_torchx.core.plan import option_values as values
from airflow_torchx.core.plan.placement import constraints
from airflow_torchx.errors import InvalidAppError, Problem
from airflow_torchx.specs.handle import SCHEDULER, SWARM_SCHEDULER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SCHEDULERS: Final = (SCHEDULER, SWARM_SCHEDULER)
#: Of a swarm, unless the connection names another one. Its name differs from that of the bridge
#: ``torchx``, which the daemon of a manager may have of its own.
SWARM_NETWORK: Final = "torchx-swarm"
#: What a swarm, and the variable of a generic resource's ids, take as a name.
_RESOURCE: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_LEAST_MTU, _LARGEST_MTU = 576, 65_535


@dataclass(frozen=True, kw_only=True, slots=True)
class Swarm:
    """How a swarm is reached and used.

    Args:
        managers: URLs of more managers, which are asked when the first one does not answer.
        constraints: nodes for all apps, as `docker service create --constraint` takes them.
        gpu_resource: name of the generic resource that is a GPU.
        subnet: addresses of the overlay network that is created; None for the swarm's choice.
        mtu: of that network, in bytes; None for the swarm's choice.
        node_url: how the daemon of a node is reached, with ``{addr}`` or ``{hostname}`` in place of
            its address; None to reach it like the manager.
    """

    managers: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    gpu_resource: str = "gpu"
    subnet: str | None = None
    mtu: int | None = None
    node_url: str | None = None

    @classmethod
    def parse(cls, given: Mapping[str, object]) -> Self | None:
        """Return the swarm in a connection's extra; None if it is of a single daemon.

        Raises:
            InvalidAppError: with one problem for every invalid field.
        """
        scheduler = given.get("scheduler") or _SCHEDULERS[0]
        problems = []
        if scheduler not in _SCHEDULERS:
            what, fix = f"{scheduler!r} is not a scheduler", f"use one of {', '.join(_SCHEDULERS)}"
            problems.append(Problem("extra.scheduler", what, fix))
        fields = {key: value for key, value in given.items() if key in _READERS}
        found: dict[str, Any] = {}
        for key, value in fields.items():
            if scheduler == _SCHEDULERS[0]:
                what, fix = (
                    "applies to a swarm only",
                    f'remove it, or set "scheduler": "{SWARM_SCHEDULER}"',
                )
                problems.append(Problem(f"extra.{key}", what, fix))
                continue
            try:
                found[key] = _READERS[key](value)
            except ValueError as error:
                problems.append(Problem(f"extra.{key}", invalid_value(key, value), str(error)))
        if problems:
            raise InvalidAppError(problems, subject="connection")
        return cls(**found) if scheduler == SWARM_SCHEDULER else None


def _managers(value: object) -> tuple[str, ...]:
    found = values.texts(value)
    for url in found:
        if problem := url_problem(url):
            raise ValueError(f"{problem[0]}: {problem[1]}")
    return found


def _resource(value: object) -> str:
    if isinstance(value, str) and _RESOURCE.fullmatch(value):
        return value
    # A shell does not pass on a variable whose name has a dash.
    raise ValueError("give a name of letters, digits and _, as in node-generic-resources")


def _subnet(value: object) -> str:
    try:
        return str(ipaddress.ip_network(str(value)))
    except ValueError:
        raise ValueError("write it like 10.77.0.0/16") from None


def _mtu(value: object) -> int:
    if type(value) is int and _LEAST_MTU <= value <= _LARGEST_MTU:
        return value
    raise ValueError(f"give a number of bytes from {_LEAST_MTU} to {_LARGEST_MTU}")


def _node_url(value: object) -> str:
    text = str(value)
    if problem := url_problem(text.replace("{addr}", "10.0.0.1").replace("{hostname}", "box1")):
        raise ValueError(f"{problem[0]}: {problem[1]}")
    if "{addr}" not in text and "{hostname}" not in text:
        raise ValueError("write {addr} or {hostname} in place of a node's address")
    return text


_READERS: Final[Mapping[str, Callable[[object], object]]] = {
    "managers": _managers,
    "constraints": constraints,
    "gpu_resource": _resource,
    "subnet": _subnet,
    "mtu": _mtu,
    "node_url": _node_url,
}
#: The fields that `Swarm.parse` reads.
SWARM_FIELDS: Final = ("scheduler", *_READERS)
