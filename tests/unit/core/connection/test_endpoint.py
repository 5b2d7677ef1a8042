"""What a connection says about a daemon, read and checked."""

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


def test_empty() -> None:
    """A connection that says nothing means the daemon of the docker command line."""
    assert (
        Endpoint()
        == Endpoint.parse(None, {})
        == Endpoint.parse(" ", {"tls_ca": "", "api_version": None})
    )


def test_full() -> None:
    """Every field is read; numbers and truth values also from text, as a form gives them."""
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
        ("", {"tls_vreify": True}, "extra.tls_vreify: there is no such field; did you mean"),
        ("", {"request_timeout_s": 0}, "extra.request_timeout_s: cannot be 0; give a number of"),
        ("", {"request_timeout_s": "soon"}, "extra.request_timeout_s: cannot be 'soon'; give a"),
        ("", {"max_connections": 1.5}, "extra.max_connections: cannot be 1.5; give a whole number"),
        ("", {"max_connections": "few"}, "extra.max_connections: cannot be 'few'; give a whole"),
        ("", {"max_connections": True}, "extra.max_connections: cannot be True; give a whole"),
        ("", {"api_version": "latest"}, "extra.api_version: cannot be 'latest'; give a version"),
        ("", {"tls_verify": "perhaps"}, "extra.tls_verify: cannot be 'perhaps'; give True or"),
        ("tcp://h", {"tls_ca": 5}, "extra.tls_ca: cannot be this; give an absolute path, or all"),
        ("tcp://h", {"tls_ca": "ca.pem"}, "extra.tls_ca: cannot be this; give an absolute path,"),
        ("tcp://h", {"tls_cert": "/c"}, "extra.tls_private_key: is missing beside tls_cert; give"),
        ("tcp://h", {"tls_private_key": "/k"}, "extra.tls_cert: is missing beside tls_private_"),
        ("", {"tls_ca": "/c"}, "extra.tls_ca: has no use for a connection without a host; leave"),
        ("unix:///s", {"tls_ca": "/c"}, "extra.tls_ca: has no use for unix://; leave it out"),
        ("", {"api_version": "x" * 60}, "extra.api_version: cannot be this; give a version"),
        ("gpu-1:2376", {}, "host: 'gpu-1:2376' has none of the schemes unix,"),
    ],
)
def test_wrong_field(host: str, extra: Mapping[str, object], expected: str) -> None:
    """A field that is wrong is named, with what to write."""
    with pytest.raises(InvalidAppError) as raised:
        Endpoint.parse(host, extra)

    assert [True] == [str(problem).startswith(expected) for problem in raised.value.problems]


def test_text_in_place_of_paths() -> None:
    """Certificates and the key may be given as text, and are not shown by anything."""
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
def test_no_key_in_problems(url: str, extra: Mapping[str, object]) -> None:
    """Wherever a key was put, it is not repeated."""
    with pytest.raises(InvalidAppError) as raised:
        Endpoint.parse(url, extra)

    assert "AAAA" not in f"{raised.value} {raised.value.problems!r} {raised.value.__context__}"


def test_all_problems_at_once() -> None:
    """One round of mending is enough."""
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
def test_url(url: str) -> None:
    """What the docker command line takes is taken."""
    assert url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "what", "fix"),
    [
        ("/var/run/docker.sock", "has none of the schemes", "write it like unix:///var/run/"),
        ("localhost:2375", "has none of the schemes", "write it like tcp://host:2376"),
        ("gpu-1", "has none of the schemes", "write it like tcp://host:2376"),
        ("npipe:////./pipe/docker", "has none of the schemes", "write it like unix:///var/run/"),
        ("unix:/var/run/docker.sock", "has none of the schemes", "write it like unix:///var/run"),
        ("unix://var/run/docker.sock", "has no absolute path", "did you mean 'unix:///var/run/"),
        ("unix://", "has no absolute path", "did you mean 'unix:///var/run/docker.sock'?"),
        ("tcp://", "has no host", "write it like tcp://host"),
        ("tcp://gpu-1:port", "is no URL", "write it like unix:///var/run/docker.sock or tcp://"),
        ("tcp://gpu-1:2376/?a=b", "has more than scheme, host and port", "leave out the rest"),
        ("ssh://gpu-1/path", "has more than scheme, host and port", "leave out the rest"),
    ],
)
def test_wrong_url(url: str, what: str, fix: str) -> None:
    """What is wrong with a URL is said, with what to write."""
    found = url_problem(url)

    assert found is not None
    assert found[0].startswith(f"{url!r} {what}")
    assert found[1].startswith(fix)


@pytest.mark.parametrize("host", ["gpu-1:2376", "gpu-1:x"])
def test_no_password_in_problems(host: str) -> None:
    """A password in a URL is refused, and not repeated."""
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
def test_port(endpoint: Endpoint, expected: str) -> None:
    """A URL without a port means Docker's own, which differs for TLS."""
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
def test_tls(endpoint: Endpoint, expected: bool) -> None:
    """A tcp:// URL is encrypted when there is a certificate to check or to show."""
    assert expected == endpoint.uses_tls


def test_socket() -> None:
    """A unix socket is told from an address."""
    urls = ["unix:///s", "http+unix:///s", "tcp://h", "ssh://h", None]

    assert [True, True, False, False, False] == [Endpoint(url=url).is_socket for url in urls]
