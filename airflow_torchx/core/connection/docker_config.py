"""Parses the docker command line's ``config.json`` as leniently as the docker command line."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_torchx.core.connection.endpoint import is_same_url
from airflow_torchx.core.engine.image_refs import HUB, host_of
from airflow_torchx.core.plan.redact import PROXY_VARIABLES
from airflow_torchx.errors import EngineUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_torchx.core.connection.endpoint import Endpoint

#: Docker Hub's key in the configuration, and its server address in a login.
HUB_URL: Final = "https://index.docker.io/v1/"
#: Headers that the docker command line sets itself, whatever the configuration says.
_OWN_HEADERS: Final = frozenset(
    {
        "content-length",
        "content-type",
        "host",
        "trailer",
        "transfer-encoding",
        "user-agent",
        "x-registry-auth",
    }
)
#: Name and value, in two lines, of a header that HTTP allows.
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\n[^\x00-\x08\x0a-\x1f\x7f]*")

#: Types of the settings, by level: of a setting, of its entries, and of theirs.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "currentContext": (str,),
    "HttpHeaders": (dict, str),
    "credsStore": (str,),
    "credHelpers": (dict, str),
    "auths": (dict, dict, str),
    "proxies": (dict, dict, str),
}
#: Python converts no text of thousands of digits to an int. No setting here is a number.
_DECODER: Final = json.JSONDecoder(parse_int=float)


@dataclass(frozen=True, kw_only=True, slots=True)
class DockerConfig:
    """What this package uses of the docker configuration; parts of a wrong type are left out.

    Args:
        problem: why nothing could be read; empty if the file is valid or missing.
        ignored: names of settings in which something has a wrong type.
        current_context: name of the docker context to use; empty for the default.
        headers: HTTP headers to send to the daemon.
        helper: the credential helper of registries without one in ``helpers``; empty for none.
        helpers: credential helper by registry, as the configuration spells it; empty for none.
        auths: logins by registry, as the configuration spells it.
        proxies: settings by the URL of a daemon, or ``default``.
    """

    problem: str = ""
    ignored: tuple[str, ...] = ()
    current_context: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    helper: str = ""
    helpers: Mapping[str, str] = field(default_factory=dict)
    auths: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    proxies: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the configuration in a text; never raises, and no problem quotes the text."""
        try:
            # Like Go's decoder, ignore what follows the first value.
            content, _ = _DECODER.raw_decode(text.strip() or "{}")
        except json.JSONDecodeError as error:
            return cls(problem=f"it is not JSON (line {error.lineno}, column {error.colno})")
        except RecursionError:
            return cls(problem="it is not JSON")
        if content is not None and not isinstance(content, dict):
            return cls(problem="it is not a JSON object")
        named = _named(content)
        return cls(
            ignored=tuple(
                name for name, types in _TYPES.items() if not _fits(named.get(name.lower()), types)
            ),
            current_context=_text(named.get("currentcontext")),
            headers=_texts(named.get("httpheaders")),
            helper=_text(named.get("credsstore")),
            helpers=_texts(named.get("credhelpers")),
            auths=_objects(named.get("auths")),
            proxies=_objects(named.get("proxies")),
        )

    @property
    def sent_headers(self) -> dict[str, bytes]:
        """The headers of each request.

        Raises:
            EngineUnreachableError: HTTP does not allow one, so the docker command line does not
                send it, either; the message has its name, but not its value.
        """
        for name, value in self.headers.items():
            if not _HEADER.fullmatch(f"{name}\n{value}"):
                raise EngineUnreachableError(
                    f"HttpHeaders of the docker configuration has an invalid header: {name!r}.",
                    fix="Correct its name or value in ~/.docker/config.json or $DOCKER_CONFIG.",
                )
        return {
            name: value.strip().encode(errors="replace")
            for name, value in self.headers.items()
            if name.lower() not in _OWN_HEADERS
        }

    def proxy_env(self, endpoint: Endpoint) -> dict[str, str]:
        """Return the environment variables that containers and builds on a daemon get."""
        keys = (key for key in self.proxies if is_same_url(key, endpoint))
        settings = self.proxies.get(next(keys, "default"), {})
        return {
            name: value
            for name in PROXY_VARIABLES
            if (value := settings.get(name.replace("_", "").lower()))
        }

    def helper_of(self, host: str) -> str:
        """Return the credential helper of a registry; empty for none."""
        return self.helpers.get(server_of(host), self.helper)

    def login(self, host: str) -> dict[str, str]:
        """Return the login of a registry as the Engine API's ``AuthConfig``; empty for none.

        Raises:
            ValueError: there is one, but it is damaged; the message does not quote it.
        """
        key = next(self._keys(host), None)
        if key is None:
            return {}
        entry = self.auths[key]
        found = {name: value for name in _LOGIN if (value := entry.get(name))}
        if auth := entry.get("auth"):
            try:
                found |= _decoded(auth)
            except ValueError:
                if not found:
                    raise
        return found and {**found, "serveraddress": server_of(host)}

    def _keys(self, host: str) -> Iterator[str]:
        if server_of(host) in self.auths:
            yield server_of(host)
        yield from (key for key in self.auths if host_of(key) == host)


def parse_context(text: str) -> dict[str, Any]:
    """Return the URL of a docker context, and whether to verify its TLS, from its ``meta.json``.

    Raises:
        ValueError: it is not JSON, or names no host.
    """
    try:
        endpoints = _named(_named(_DECODER.decode(text)).get("endpoints"))
    except (RecursionError, ValueError):
        raise ValueError("it is not JSON") from None
    docker = _named(endpoints.get("docker"))
    host = _text(docker.get("host"))
    if not host:
        raise ValueError("it has no host")
    return {"url": host, "tls_verify": docker.get("skiptlsverify") is not True}


_LOGIN: Final = ("username", "password", "identitytoken", "registrytoken")


def server_of(host: str) -> str:
    """Return the name of a registry in logins: its host, but a URL for Docker Hub."""
    return HUB_URL if host == HUB else host


def _decoded(auth: str) -> dict[str, str]:
    packed = re.sub(r"[\r\n]", "", auth)
    try:
        user, colon, password = base64.b64decode(packed, validate=True).decode().partition(":")
    except ValueError:
        user, colon, password = "", "", ""
    if not (user and colon):
        raise ValueError("the login is damaged")
    return {"username": user, "password": password.strip("\0")}


def _named(content: object) -> dict[str, Any]:
    """Return the fields of an object by their names in lower case, as Go's decoder ignores case."""
    return {key.lower(): value for key, value in _mapping(content).items()}


def _fits(value: object, types: tuple[type, ...]) -> bool:
    """Return whether a value is null, or it and what is in it have the types of their levels."""
    if isinstance(value, dict) and types[0] is dict:
        return all(_fits(entry, types[1:]) for entry in value.values())
    return value is None or isinstance(value, types[0])


def _mapping(content: object) -> dict[str, Any]:
    return content if isinstance(content, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(content: object) -> dict[str, str]:
    return {key: value for key, value in _mapping(content).items() if isinstance(value, str)}


def _objects(content: object) -> dict[str, dict[str, str]]:
    return {key: _texts(_named(value)) for key, value in _mapping(content).items()}
