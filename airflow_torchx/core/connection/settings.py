"""What an Airflow connection says about a daemon and the apps on it, read and checked; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_torchx.core.connection.endpoint import ENDPOINT_FIELDS, Endpoint
from airflow_torchx.core.plan import option_values as values
from airflow_torchx.core.plan.options import DEFAULT_NETWORK, Opts
from airflow_torchx.errors import InvalidAppError, Problem
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OWN_FIELDS: Final = ("network", "options", "registries")
#: Every field of a connection's extra.
FIELDS: Final = (*ENDPOINT_FIELDS, *_OWN_FIELDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a connection says.

    Args:
        endpoint: how to reach the daemon.
        options: run options of every app, under the app's own; the network is among them.
        registries: ids of connections with logins for registries.
    """

    endpoint: Endpoint = field(default_factory=Endpoint)
    options: Mapping[str, object] = field(default_factory=dict)
    registries: tuple[str, ...] = ()

    @property
    def network(self) -> str:
        """The network that apps join unless they say otherwise."""
        return str(self.options.get("network") or DEFAULT_NETWORK)

    @classmethod
    def parse(
        cls,
        url: str | None,
        extra: str | Mapping[str, object] | None,
        *,
        subject: str = "connection",
    ) -> Self:
        """Return what a connection says.

        Args:
            url: the daemon's; empty for what the docker command line would use.
            extra: all other fields, by name, or their JSON; empty values are as good as absent.
            subject: what the error calls the connection.

        Raises:
            InvalidAppError: with one problem for every field that is wrong.
        """
        given, problems = _fields(extra)
        endpoint = Endpoint()
        try:
            endpoint = Endpoint.parse(url, {k: v for k, v in given.items() if k in ENDPOINT_FIELDS})
        except InvalidAppError as wrong:
            problems += wrong.problems
        found: dict[str, Any] = {}
        for key, read in _READERS.items():
            try:
                found[key] = read(given[key]) if key in given else None
            except ValueError as wrong:
                problems += _read_problems(key, given[key], wrong)
        options = found.get("options") or {}
        if found.get("network") and options.get("network"):
            what, fix = "is given beside extra.network", "leave one of them out"
            problems.append(Problem("extra.options.network", what, fix))
        if problems:
            raise InvalidAppError(problems, subject=subject)
        if found["network"]:
            options = {**options, "network": found["network"]}
        return cls(endpoint=endpoint, options=options, registries=found["registries"] or ())


def daemon_url(
    host: str | None,
    *,
    port: int | None = None,
    login: str | None = None,
    schema: str | None = None,
) -> str | None:
    """Return the URL that the parts of a connection make.

    A connection that is written as a URI, like ``torchx-docker://tcp://gpu-1:2376``, comes in
    parts; one of a form has the whole URL in its host.

    Args:
        host: scheme and host.
        port: the port.
        login: the user, for ``ssh://``.
        schema: the path.
    """
    scheme, separator, rest = (host or "").strip().rpartition("://")
    if not rest:
        return f"unix:///{schema}" if schema else None
    place = f"{login}@{rest}" if login and scheme == "ssh" and "@" not in rest else rest
    if port and ":" not in place.rpartition("]")[2]:
        place = f"{place}:{port}"
    return f"{scheme}{separator}{place}/{schema}" if schema else f"{scheme}{separator}{place}"


def _fields(
    extra: str | Mapping[str, object] | None,
) -> tuple[dict[str, object], list[Problem]]:
    """Return the known fields that are not empty, and what is wrong with the others."""
    try:
        read = _mapping(extra or {})
    except ValueError:
        return {}, [Problem("extra", "is no JSON object", 'write it like {"network": "torchx"}')]
    unknown = [
        Problem(f"extra.{key}", "there is no such field", suggest(key, FIELDS))
        for key in read
        if key not in FIELDS
    ]
    return {k: v for k, v in read.items() if k in FIELDS and v not in (None, "")}, unknown


def _mapping(value: object) -> dict[str, object]:
    """Return a mapping, also from its JSON, as a URI has it."""
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    msg = "give a mapping of run options"
    raise ValueError(msg)


def _options(value: object) -> Mapping[str, object]:
    options = _mapping(value)
    Opts.parse(options)
    return options


def _read_problems(key: str, value: object, wrong: ValueError) -> Iterator[Problem]:
    if isinstance(wrong, InvalidAppError):
        for problem in wrong.problems:
            yield Problem(f"extra.{problem.where}", problem.what, problem.fix)
    elif isinstance(wrong, json.JSONDecodeError):
        yield Problem(f"extra.{key}", "is no JSON object", 'write it like {"user": "1000"}')
    else:
        shown = "this" if key == "options" else repr(value)
        yield Problem(f"extra.{key}", f"cannot be {shown}", str(wrong))


_READERS: Final[Mapping[str, Callable[[object], object]]] = {
    "network": values.network,
    "options": _options,
    "registries": values.texts,
}
