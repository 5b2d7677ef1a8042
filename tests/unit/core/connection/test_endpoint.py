"""Tests of the endpoint in an Airflow connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint, complete_url, url_problem
from airflow_torchx.core.connection.pem import Pem
from airflow_torchx.errors import InvalidAppError

if TYPE_CHECKING:
    from collections.abc import Mapping

CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
KEY: Final = f"-----BEGIN PRIVATE KEY-----\n{'A' * 64}\nAAA=\n-----END PRIVATE KEY-----\n"


def test_an_empty_connection() -> None:
    """A connection without fields means the daemon of the docker command line."""
    assert (
        Endpoint()
        == Endpoint.parse(None, {})
        == Endpoint.parse(" ", {"tls_ca": "", "api_version": None})
    )


def test_every_field() -> None:
    """Every field is parsed; numbers and booleans can be strings, as in Airflow's form."""
    extra = {
        "tls_ca": "/ca.pem",
        "tls_cert": "/cert.pem",
        "tls_private_key": "/key.pem",
        "tls_verify": "false",
        "api_version": "1.43",
        "request_timeout_s": "2.5",
        "max_connections": "8",
    }
    expected = Endpoint(
        url="tcp://gpu-1:2376",
        tls_ca="/ca.pem",
        tls_cert="/cert.pem",
        tls_private_key="/key.pem",
        tls_verify=False,
        api_version="1.43",
        request_timeout_s=2.5,
        max_connections=8,
    )

    assert expected == Endpoint.parse(" tcp://gpu-1:2376 ", extra)


@pytest.mark.parametrize(
    ("host", "extra", "expected"),
    [
        ("", {"tls_vreify": True}, "extra.tls_vreify: no such field; did you mean"),
        (
            "",
            {"request_timeout_s": 0},
            "extra.request_timeout_s: invalid value 0; give a number of",
        ),
        (
            "",
            {"request_timeout_s": "soon"},
            "extra.request_timeout_s: invalid value 'soon'; give a",
        ),
        (
            "",
            {"max_connections": 1.5},
            "extra.max_connections: invalid value 1.5; give a whole number",
        ),
        (
            "",
            {"max_connections": "few"},
            "extra.max_connections: invalid value 'few'; give a whole",
        ),
        ("", {"max_connections": True}, "extra.max_connections: invalid value True; give a whole"),
        (
            "",
            {"api_version": "latest"},
            "extra.api_version: invalid value 'latest'; give a version",
        ),
        ("", {"tls_verify": "perhaps"}, "extra.tls_verify: invalid value 'perhaps'; give True or"),
        ("tcp://h", {"tls_ca": 5}, "extra.tls_ca: invalid value; give an absolute path, or the"),
        ("tcp://h", {"tls_ca": "ca.pem"}, "extra.tls_ca: invalid value; give an absolute path,"),
        ("tcp://h", {"tls_cert": "/c"}, "extra.tls_private_key: missing, but tls_cert is set; set"),
        (
            "tcp://h",
            {"tls_private_key": "/k"},
            "extra.tls_cert: missing, but tls_private_key is set",
        ),
        ("", {"tls_ca": "/c"}, "extra.tls_ca: does not apply to a connection without a host;"),
        ("unix:///s", {"tls_ca": "/c"}, "extra.tls_ca: does not apply to unix://; remove it"),
        ("", {"api_version": "x" * 60}, "extra.api_version: invalid value; give a version"),
        ("gpu-1:2376", {}, "host: 'gpu-1:2376' has none of the schemes unix,"),
    ],
)
def test_invalid_fields(host: str, extra: Mapping[str, object], expected: str) -> None:
    """The error names the invalid field and says what to write."""
    with pytest.raises(InvalidAppError) as raised:
        Endpoint.parse(host, extra)

    assert [True] == [str(problem).startswith(expected) for problem in raised.value.problems]


def test_pem_text_in_place_of_paths() -> None:
    """Certificates and the key can be given as text, which is never shown."""
    extra = {"tls_ca": CERTIFICATE, "tls_cert": CERTIFICATE, "tls_private_key": KEY}

    endpoint = Endpoint.parse("tcp://h", extra)

    assert (Pem(CERTIFICATE), Pem(KEY)) == (endpoint.tls_ca, endpoint.tls_private_key)
    assert endpoint.uses_tls
    assert "AAAA" not in f"{endpoint} {endpoint!r} {endpoint.tls_private_key}"


@pytest.mark.parametrize(
    ("url", "extra"),
    [
        ("tcp://h", {"tls_private_key": KEY}),
        ("tcp://h", {"tls_private_key": KEY.replace("KEY", "KAY")}),
        ("tcp://h", {"tls_private_key": KEY.replace("A=", "A?")}),
        ("tcp://h", {"tls_private_key": KEY.replace("-----BEGIN PRIVATE KEY-----", "")}),
        ("tcp://h", {"tls_private_key": [KEY]}),
        ("tcp://h", {"tls_cert": KEY, "tls_ca": KEY}),
        ("tcp://h", {"api_version": KEY, "tls_verify": KEY, "max_connections": KEY}),
        ("unix:///s", {"tls_private_key": KEY, "request_timeout_s": KEY}),
    ],
)
def test_errors_do_not_repeat_keys(url: str, extra: Mapping[str, object]) -> None:
    """No error repeats a key, whichever field it is in."""
    with pytest.raises(InvalidAppError) as raised:
        Endpoint.parse(url, extra)

    assert "AAAA" not in f"{raised.value} {raised.value.problems!r} {raised.value.__context__}"


def test_one_error_lists_all_problems() -> None:
    """One error lists all problems of a connection."""
    with pytest.raises(InvalidAppError, match="invalid connection: 3 problems"):
        Endpoint.parse("tcp://", {"api_version": 1, "tls": True})


@pytest.mark.parametrize(
    "url",
    [
        "unix:///var/run/docker.sock",
        "http+unix:///var/run/docker.sock",
        "tcp://gpu-1:2376",
        "tcp://gpu-1",
        "tcp://[::1]:2375",
        "http://10.0.0.1:2375",
        "https://gpu-1:2376/prefix",
        "ssh://me@gpu-1:2222",
    ],
)
def test_valid_urls(url: str) -> None:
    """Every URL that the docker command line accepts is valid."""
    assert url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "what", "fix"),
    [
        ("/var/run/docker.sock", "has none of the schemes", "write it like unix:///var/run/"),
        ("localhost:2375", "has none of the schemes", "write it like tcp://host:2376"),
        ("gpu-1", "has none of the schemes", "write it like tcp://host:2376"),
        ("npipe:////./pipe/docker", "has none of the schemes", "write it like unix:///var/run/"),
        ("SSH://gpu-1", "has none of the schemes", "write it like tcp://host:2376"),
        ("unix:/var/run/docker.sock", "has none of the schemes", "write it like unix:///var/run"),
        ("unix://var/run/docker.sock", "has no absolute path", "did you mean 'unix:///var/run/"),
        ("unix://", "has no absolute path", "did you mean 'unix:///var/run/docker.sock'?"),
        ("tcp://", "has no host", "write it like tcp://host"),
        ("tcp://gpu-1:port", "is not a URL", "write it like unix:///var/run/docker.sock or tcp://"),
        ("tcp://gpu-1:2376/?a=b", "has more than scheme, host and port", "remove the rest"),
        ("ssh://gpu-1/path", "has more than scheme, host and port", "remove the rest"),
    ],
)
def test_invalid_urls(url: str, what: str, fix: str) -> None:
    """The error says what is wrong with a URL, and what to write."""
    found = url_problem(url)

    assert found is not None
    assert found[0].startswith(f"{url!r} {what}")
    assert found[1].startswith(fix)


@pytest.mark.parametrize("host", ["gpu-1:2376", "gpu-1:x"])
def test_errors_do_not_repeat_passwords(host: str) -> None:
    """A password in a URL is refused, and the error does not repeat it."""
    found = url_problem(f"tcp://me:secret@{host}")

    assert found is not None
    assert found[0].startswith(f"'tcp://…@{host}' ")


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (Endpoint(), "unix:///var/run/docker.sock"),
        (Endpoint(url="unix:///s"), "unix:///s"),
        (Endpoint(url="tcp://h:1"), "tcp://h:1"),
        (Endpoint(url="tcp://h"), "tcp://h:2375"),
        (Endpoint(url="tcp://[::1]"), "tcp://[::1]:2375"),
        (Endpoint(url="tcp://h", tls_ca="/ca"), "tcp://h:2376"),
        (Endpoint(url="https://h/prefix"), "https://h:2376/prefix"),
        (Endpoint(url="ssh://h"), "ssh://h"),
    ],
)
def test_default_ports(endpoint: Endpoint, expected: str) -> None:
    """A URL without a port gets Docker's default, which differs for TLS."""
    assert expected == complete_url(endpoint)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (Endpoint(), False),
        (Endpoint(url="tcp://h"), False),
        (Endpoint(url="tcp://h", tls_ca="/ca"), True),
        (Endpoint(url="tcp://h", tls_cert="/c", tls_private_key="/k"), True),
        (Endpoint(url="https://h"), True),
        (Endpoint(url="http://h", tls_ca="/ca"), False),
        (Endpoint(url="unix:///s", tls_ca="/ca"), False),
    ],
)
def test_which_endpoints_use_tls(endpoint: Endpoint, expected: bool) -> None:
    """A tcp:// URL uses TLS if a certificate is given."""
    assert expected == endpoint.uses_tls


def test_which_endpoints_are_sockets() -> None:
    """A unix socket is told apart from an address."""
    urls = ["unix:///s", "http+unix:///s", "tcp://h", "ssh://h", None]

    assert [True, True, False, False, False] == [Endpoint(url=url).is_socket for url in urls]
