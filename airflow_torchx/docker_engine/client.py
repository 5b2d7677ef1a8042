"""Docker's SDK as the client of one daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes, urlsplit, urlunsplit

import docker  # noqa: TID253 - this module is imported when a client is made
import requests
from requests.adapters import HTTPAdapter

from airflow_torchx.docker_engine.sockets import SocketAdapter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.core.connection.endpoint import Endpoint


class SdkClient(docker.APIClient):  # type: ignore[misc] # the SDK has no types
    """An `APIClient` that reads no file and, except for HTTP proxies, no environment.

    The initializer of the SDK (7.2) reads the docker configuration, and raises bare errors for
    parts that the docker CLI ignores. So this one replaces it.
    """

    def __init__(self, endpoint: Endpoint, api_version: str, headers: Mapping[str, bytes]) -> None:
        requests.Session.__init__(self)
        self.timeout = endpoint.request_timeout_s
        self.headers.update({"User-Agent": docker.constants.DEFAULT_USER_AGENT, **headers})
        # With trust_env, REQUESTS_CA_BUNDLE would override tls_ca.
        self.trust_env = False
        self._version = api_version
        # Methods of the SDK read these.
        self._general_configs: dict[str, Any] = {}
        self._proxy_configs = docker.utils.proxy.ProxyConfig()
        self._auth_configs = docker.auth.AuthConfig({})
        self.credstore_env = None
        self._custom_adapter = None
        url = docker.utils.parse_host(endpoint.url, tls=endpoint.uses_tls)
        if url.startswith(("http://", "https://")):
            self.base_url = url
            found = requests.utils.get_environ_proxies(url)
            self.proxies.update({name: _in_utf8(proxy) for name, proxy in found.items()})
        else:
            self.base_url = "http+docker://localhost"
        if endpoint.uses_tls:
            pair = (endpoint.tls_cert, endpoint.tls_private_key) if endpoint.tls_cert else None
            docker.tls.TLSConfig(
                client_cert=pair, ca_cert=endpoint.tls_ca, verify=endpoint.tls_verify
            ).configure_client(self)
        self.mount(self.base_url, _adapter(endpoint))


def _in_utf8(proxy: str) -> str:
    """Return the URL of a proxy whose user and password requests sends in UTF-8.

    It encodes them in Latin-1, so each byte of UTF-8 is written as the character of that number.
    """
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    login, at, host = parts.netloc.rpartition("@")
    raw = (unquote_to_bytes(part.encode(errors="surrogateescape")) for part in login.split(":", 1))
    login = ":".join(quote(part.decode("latin-1"), safe="") for part in raw)
    return urlunsplit(parts._replace(netloc=f"{login}{at}{host}"))


def _adapter(endpoint: Endpoint) -> HTTPAdapter:
    kept = endpoint.max_connections
    if endpoint.is_socket or endpoint.is_ssh:
        return SocketAdapter(str(endpoint.url), max_connections=kept)
    # The SDK keeps requests' default pool of ten; urllib3 warns about each one beyond.
    return HTTPAdapter(pool_maxsize=kept)
