"""Parses an Airflow connection: the daemon's endpoint, run options and registry logins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_torchx.core.connection.endpoint import ENDPOINT_FIELDS, Endpoint
from airflow_torchx.core.connection.swarm import SWARM_FIELDS, SWARM_NETWORK, Swarm
from airflow_torchx.core.plan import option_values as values
from airflow_torchx.core.plan.gpu_id_values import check_gpu_ids
from airflow_torchx.core.plan.options import DEFAULT_NETWORK, Opts
from airflow_torchx.errors import InvalidAppError, Problem
from airflow_torchx.specs.handle import SCHEDULER, SWARM_SCHEDULER
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OWN_FIELDS: Final = ("network", "options", "registries", "gpu_ids")
#: Every field of a connection's extra.
FIELDS: Final = (*ENDPOINT_FIELDS, *_OWN_FIELDS, *SWARM_FIELDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings in an Airflow connection.

    Args:
        options: default run options of every app, including the network.
        registries: ids of connections with registry logins.
        gpu_ids: GPUs of the daemon to use; empty for all that it reports.
    """

    endpoint: Endpoint = field(default_factory=Endpoint)
    options: Mapping[str, object] = field(default_factory=dict)
    registries: tuple[str, ...] = ()
    gpu_ids: tuple[str, ...] = ()

    @property
    def network(self) -> str:
        """The default network of apps."""
        default = SWARM_NETWORK if self.endpoint.swarm else DEFAULT_NETWORK
        return str(self.options.get("network") or default)

    @property
    def scheduler(self) -> str:
        """The scheduler in the handles of apps."""
        return SWARM_SCHEDULER if self.endpoint.swarm else SCHEDULER

    @classmethod
    def parse(
        cls,
        url: str | None,
        extra: str | Mapping[str, object] | None,
        *,
        subject: str = "connection",
    ) -> Self:
        """Return the settings in a connection; ``subject`` is its name in errors.

        The URL is empty for the docker command line's default. The other fields are given by name,
        or as JSON; empty values are ignored.

        Raises:
            InvalidAppError: with one problem for every invalid field.
        """
        given, problems = _fields(extra)
        endpoint = _endpoint(url, given, problems)
        found: dict[str, Any] = {}
        for key, read in _READERS.items():
            try:
                found[key] = read(given[key]) if key in given else None
            except ValueError as error:
                problems += _read_problems(key, given[key], error)
        options = found.get("options") or {}
        problems += _conflicts(endpoint, found, options)
        if problems:
            raise InvalidAppError(problems, subject=subject)
        network = found["network"] or (SWARM_NETWORK if endpoint.swarm else None)
        if network and not options.get("network"):
            options = {**options, "network": network}
        return cls(
            endpoint=endpoint,
            options=options,
            registries=found["registries"] or (),
            gpu_ids=found["gpu_ids"] or (),
        )


def daemon_url(
    host: str | None,
    *,
    port: int | None = None,
    login: str | None = None,
    schema: str | None = None,
) -> str | None:
    """Return the daemon's URL from the parts of a connection.

    Airflow splits a connection URI, like ``torchx-docker://tcp://gpu-1:2376``, into parts; a
    connection from the form has the whole URL in its host. The schema is the path.
    """
    scheme, separator, rest = (host or "").strip().rpartition("://")
    if not rest:
        return f"unix:///{schema}" if schema else None
    address = f"{login}@{rest}" if login and scheme == "ssh" and "@" not in rest else rest
    has_port = ":" in address.rpartition("]")[2] or scheme.endswith("unix")
    if port and not has_port:
        address = f"{address}:{port}"
    return f"{scheme}{separator}{address}/{schema}" if schema else f"{scheme}{separator}{address}"


def _endpoint(url: str | None, given: Mapping[str, object], problems: list[Problem]) -> Endpoint:
    """Return the daemon, with its swarm if it has one; add what is wrong to ``problems``."""
    found = Endpoint()
    try:
        found = Endpoint.parse(url, {k: v for k, v in given.items() if k in ENDPOINT_FIELDS})
    except InvalidAppError as error:
        problems += error.problems
    try:
        return replace(found, swarm=Swarm.parse(given))
    except InvalidAppError as error:
        problems += error.problems
    return found


def _conflicts(
    endpoint: Endpoint, found: Mapping[str, object], options: Mapping[str, object]
) -> Iterator[Problem]:
    """Yield a problem for each field that another one rules out."""
    if found.get("network") and options.get("network"):
        what, fix = "set twice, here and in extra.network", "remove one of them"
        yield Problem("extra.options.network", what, fix)
    if found.get("gpu_ids") and endpoint.swarm:
        fix = "name the GPUs of each node in its daemon.json, as node-generic-resources"
        yield Problem("extra.gpu_ids", "applies to one daemon only", fix)


def _fields(
    extra: str | Mapping[str, object] | None,
) -> tuple[dict[str, object], list[Problem]]:
    """Return the known fields that are not empty, and problems with the others."""
    try:
        read = _mapping(extra or {})
    except ValueError:
        return {}, [Problem("extra", "not a JSON object", 'write it like {"network": "torchx"}')]
    unknown = [
        Problem(f"extra.{key}", "no such field", suggest(key, FIELDS))
        for key in read
        if key not in FIELDS
    ]
    return {k: v for k, v in read.items() if k in FIELDS and v not in (None, "")}, unknown


def _mapping(value: object) -> dict[str, object]:
    """Return a mapping, or parse it from the JSON in a connection URI."""
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    raise ValueError("give a mapping of run options")


def _options(value: object) -> Mapping[str, object]:
    options = _mapping(value)
    Opts.parse(options)
    return options


def _gpu_ids(value: object) -> tuple[str, ...]:
    """Return ids of GPUs; an index may be a number."""
    if isinstance(value, list):
        value = [str(one) if type(one) is int else one for one in value]
    ids = values.texts(value)
    check_gpu_ids(ids)
    return ids


def _read_problems(key: str, value: object, error: ValueError) -> Iterator[Problem]:
    if isinstance(error, InvalidAppError):
        for problem in error.problems:
            yield Problem(f"extra.{problem.where}", problem.what, problem.fix)
    elif isinstance(error, json.JSONDecodeError):
        yield Problem(f"extra.{key}", "not a JSON object", 'write it like {"user": "1000"}')
    else:
        shown = "" if key == "options" else f" {value!r}"
        yield Problem(f"extra.{key}", f"invalid value{shown}", str(error))


_READERS: Final[Mapping[str, Callable[[object], object]]] = {
    "network": values.network,
    "options": _options,
    "registries": values.texts,
    "gpu_ids": _gpu_ids,
}
