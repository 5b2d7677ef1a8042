"""The docker configuration, read as the docker command line reads it.

What the docker command lines 20.10.24 and 28.2.2 send for each of these texts was recorded with a
server in place of a daemon.
"""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_torchx.core.connection.docker_config import HUB_URL, DockerConfig, parse_context
from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.errors import EngineUnreachableError

SECRET = "hidden-word"  # noqa: S105 - not a real one
HOST = "h:1"


def packed(text: str) -> str:
    """Return a login as `docker login` stores it."""
    return base64.b64encode(text.encode()).decode()


GOOD = {HOST: {"auth": packed(f"me:{SECRET}")}}
ME = {"username": "me", "password": SECRET, "serveraddress": HOST}


def parsed(**content: object) -> DockerConfig:
    """Return a configuration with these fields."""
    return DockerConfig.parse(json.dumps(content))


@pytest.mark.parametrize(
    ("auths", "expected"),
    [
        (GOOD, ME),
        ({HOST: {"username": "me", "password": SECRET}}, ME),
        ({HOST: {"auth": packed(f"me:{SECRET}\0\0")}}, ME),
        ({HOST: {"auth": f"\n{packed(f'me:{SECRET}')}\r\n"}}, ME),
        ({f"https://{HOST}/v2/": GOOD[HOST]}, ME),
        ({HOST: {"Auth": GOOD[HOST]["auth"]}}, ME),
        ({HOST: {"auth": "!!", "username": "me", "password": SECRET}}, ME),
        (
            {HOST: {"auth": packed("o:x"), "username": "me"}},
            ME | {"username": "o", "password": "x"},
        ),
        ({"other": {"auth": "!!"}, "third": 5, "fourth": {"auth": 5}, **GOOD}, ME),
        (
            {HOST: {"auth": packed("me:"), "identitytoken": SECRET}},
            {"username": "me", "password": "", "identitytoken": SECRET, "serveraddress": HOST},
        ),
        ({HOST: {"registrytoken": SECRET}}, {"registrytoken": SECRET, "serveraddress": HOST}),
        ({HOST: {"auth": ""}}, {}),
        ({HOST: {}}, {}),
        ({HOST: {"email": "me@h"}}, {}),
        ({HOST: SECRET}, {}),
        ({HOST: None}, {}),
        ({HOST: {"auth": 5}}, {}),
        ({HOST: {"auth": None, "username": [SECRET]}}, {}),
        ([SECRET], {}),
        (SECRET, {}),
        (None, {}),
        ({"h": GOOD[HOST], "h:2": GOOD[HOST]}, {}),
    ],
)
def test_login(auths: object, expected: dict[str, str]) -> None:
    """Each login that the docker command line sends is found, whatever stands beside it."""
    assert expected == parsed(auths=auths).login(HOST)


@pytest.mark.parametrize(
    "auth", [SECRET, "!!", packed("me"), packed(f":{SECRET}"), "/w==", f"é{SECRET}"]
)
def test_damaged_login(auth: str) -> None:
    """A login that cannot be decoded is an error, which does not quote it."""
    with pytest.raises(ValueError, match="the login is damaged"):
        parsed(auths={HOST: {"auth": auth}}).login(HOST)


@pytest.mark.parametrize("key", [HUB_URL, "docker.io", "index.docker.io", "https://docker.io"])
def test_login_of_docker_hub(key: str) -> None:
    """Docker Hub has a URL as its name, and its other names are found, too."""
    config = parsed(auths={key: GOOD[HOST]})

    assert ME | {"serveraddress": HUB_URL} == config.login("docker.io")
    assert {} == parsed(auths={HUB_URL: {"auth": ""}}).login("docker.io")


def test_exact_name_of_a_registry_wins() -> None:
    """Of two entries for one registry, the one with its plain name wins."""
    config = parsed(auths={f"http://{HOST}": {"username": "old"}, **GOOD})

    assert ME == config.login(HOST)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"credsStore": "all"}, "all"),
        ({"CredsStore": "all"}, "all"),
        ({"credsStore": "all", "credHelpers": {HOST: "one"}}, "one"),
        ({"credsStore": "all", "credHelpers": {HOST: ""}}, ""),
        ({"credsStore": "all", "credHelpers": {"other": "one"}}, "all"),
        ({"credsStore": 5, "credHelpers": {HOST: 5}}, ""),
        ({"credsStore": ["x"], "credHelpers": "x"}, ""),
        ({"credsStore": {"x": 1}, "credHelpers": None}, ""),
    ],
)
def test_helper(content: dict[str, object], expected: str) -> None:
    """A registry's own credential helper wins, and the empty one is none."""
    assert expected == parsed(**content).helper_of(HOST)


def test_helper_of_docker_hub() -> None:
    """The helper of Docker Hub is found by its URL."""
    assert "one" == parsed(credHelpers={HUB_URL: "one"}).helper_of("docker.io")


@pytest.mark.parametrize("text", ["", " \n", "null", "{}", '{"auths": null}', '{"unknown": [1]}'])
def test_nothing_to_read(text: str) -> None:
    """A configuration without settings is valid."""
    assert DockerConfig() == DockerConfig.parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "it is not JSON (line 1, column 2)"),
        (f'{{\n"auths": {SECRET}}}', "it is not JSON (line 2, column 10)"),
        ("[" * 100_000, "it is not JSON"),
        ("9" * 10_000, "it is not a JSON object"),
        (f'["{SECRET}"]', "it is not a JSON object"),
        (f'"{SECRET}"', "it is not a JSON object"),
    ],
    ids=["open", "no text", "deep", "long", "a list", "a text"],
)
def test_unreadable(text: str, why: str) -> None:
    """A text that is not a JSON object is a problem, which does not quote it."""
    assert DockerConfig(problem=why) == DockerConfig.parse(text)


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000, "1e9999", "0." + "1" * 5000])
def test_long_numbers(number: str) -> None:
    """A number of any length is JSON."""
    text = f'{{"x": {number}, "auths": {json.dumps(GOOD)}}}'

    assert ME == DockerConfig.parse(text).login(HOST)
    context = f'{{"x": {number}, "Endpoints": {{"docker": {{"Host": "{URL}"}}}}}}'
    assert URL == parse_context(context)["url"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"proxies": "x"}, ("proxies",)),
        ({"Proxies": {"default": "http://p"}}, ("proxies",)),
        ({"auths": [SECRET], "credsStore": 5}, ("credsStore", "auths")),
        ({"HttpHeaders": {"X-A": 1}, "credHelpers": {HOST: ["x"]}}, ("HttpHeaders", "credHelpers")),
        ({"currentContext": {}}, ("currentContext",)),
        ({"proxies": {"default": None}, "auths": None, "psFormat": 5, "aliases": "x"}, ()),
        (
            {"auths": {HOST: {"auth": 5}}, "proxies": {"default": {"httpProxy": 5}}},
            ("auths", "proxies"),
        ),
        ({"auths": {HOST: {"auth": None}}, "credsStore": "", "proxies": {}}, ()),
    ],
)
def test_wrong_types_are_named(content: dict[str, object], expected: tuple[str, ...]) -> None:
    """Settings that are used and have a wrong type are named."""
    assert expected == parsed(**content).ignored


def test_text_after_the_object() -> None:
    """Text after the JSON object is ignored."""
    assert ME == DockerConfig.parse(json.dumps({"auths": GOOD}) + " }").login(HOST)


def test_a_configuration_hides_its_secrets() -> None:
    """The repr of a configuration has neither logins nor proxies nor headers."""
    config = parsed(
        auths=GOOD, HttpHeaders={"A": SECRET}, proxies={"default": {"httpProxy": SECRET}}
    )

    assert SECRET not in repr(config)
    assert GOOD[HOST]["auth"] not in repr(config)


@pytest.mark.parametrize(("value", "expected"), [("a", "a"), (1, ""), (None, ""), (["a"], "")])
def test_current_context(value: object, expected: str) -> None:
    """A context of another type than a text is ignored."""
    assert expected == parsed(currentContext=value).current_context


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-A": "1", "X-B": 2, "X-C": None}, {"X-A": b"1"}),
        ({"X-A": "  ü\t"}, {"X-A": "ü".encode()}),
        ({"X-A": "\ud800"}, {"X-A": b"?"}),
        ({"X-A": ""}, {"X-A": b""}),
        ({"User-Agent": "x", "host": "x", "Content-TYPE": "x", "X-Registry-Auth": "x"}, {}),
        (["X-A"], {}),
        ("X-A", {}),
    ],
)
def test_headers(headers: object, expected: dict[str, bytes]) -> None:
    """Headers are sent as the docker command line sends them, which sets some itself."""
    assert expected == parsed(HttpHeaders=headers).sent_headers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, SECRET) for name in ("", "X A", "X:A", "Ü", "X\n")),
        *(("X-A", f"{SECRET}{control}{SECRET}") for control in "\n\r\0\x7f\x1b"),
    ],
)
def test_an_invalid_header(name: str, value: str) -> None:
    """The docker command line sends no request with such a header; the error hides its value."""
    with pytest.raises(EngineUnreachableError, match="has an invalid header") as raised:
        _ = parsed(HttpHeaders={name: value}).sent_headers

    assert repr(name) in str(raised.value)
    assert SECRET not in str(raised.value)


FIELDS = ("auths", "credsStore", "credHelpers", "currentContext", "HttpHeaders", "proxies")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda item: (
        st.lists(item, max_size=2)
        | st.dictionaries(st.sampled_from([HOST, HUB_URL, "default", "auth", "x"]), item)
    ),
    max_leaves=9,
)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_configuration(content: dict[str, object]) -> None:
    """Whatever is in the configuration, all that is read of it has the right type."""
    config = DockerConfig.parse(json.dumps(content))

    with contextlib.suppress(ValueError):
        config.login(HOST)
    with contextlib.suppress(EngineUnreachableError):
        assert all(isinstance(value, bytes) for value in config.sent_headers.values())
    values = [config.current_context, config.helper_of(HOST), config.helper_of("docker.io")]
    values += config.proxy_env(Endpoint(url=URL)).values()
    assert all(isinstance(value, str) for value in values)


URL = "tcp://gpu-1:2375"
DEFAULT = {"httpProxy": "http://p", "noProxy": "a,b"}


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [
        (
            {
                "default": {
                    "httpProxy": "http://p",
                    "httpsProxy": "http://u:p@q",
                    "noProxy": "a,b",
                    "ftpProxy": "f",
                    "allProxy": "s",
                }
            },
            {
                "http_proxy": "http://p",
                "https_proxy": "http://u:p@q",
                "no_proxy": "a,b",
                "ftp_proxy": "f",
                "all_proxy": "s",
            },
        ),
        ({"default": {"HTTPProxy": "x"}}, {"http_proxy": "x"}),
        ({"default": DEFAULT, URL: {"httpsProxy": "own"}}, {"https_proxy": "own"}),
        ({"default": DEFAULT, "tcp://gpu-1": {"httpsProxy": "own"}}, {"https_proxy": "own"}),
        ({"default": DEFAULT, URL: {}}, {}),
        ({"default": DEFAULT, URL: "x"}, {}),
        ({"default": DEFAULT, "tcp://[": {"httpsProxy": "x"}, "tcp://gpu-2": {}}, None),
        ({"default": {**DEFAULT, "httpsProxy": ["x"], "ftpProxy": 5, "allProxy": ""}}, None),
        ({"other": DEFAULT}, {}),
        ({"default": "http://p"}, {}),
        (["http://p"], {}),
        ("http://p", {}),
        (None, {}),
    ],
)
def test_proxies(proxies: object, expected: dict[str, str] | None) -> None:
    """A daemon's own proxies, or else the default ones, are variables in both spellings."""
    if expected is None:
        expected = {"http_proxy": "http://p", "no_proxy": "a,b"}
    upper = {name.upper(): value for name, value in expected.items()}

    assert upper | expected == parsed(proxies=proxies).proxy_env(Endpoint(url=URL))


def test_proxies_of_a_socket() -> None:
    """The proxies of a socket are those of its URL."""
    config = parsed(proxies={"unix:///var/run/docker.sock": {"httpProxy": "own"}})

    assert {"HTTP_PROXY": "own", "http_proxy": "own"} == config.proxy_env(
        Endpoint(url="unix:///var/run/docker.sock")
    )
    assert {} == config.proxy_env(Endpoint(url="unix:///other.sock"))


@pytest.mark.parametrize(
    ("endpoints", "verify"),
    [
        ({"docker": {"Host": URL}}, True),
        ({"docker": {"Host": URL, "SkipTLSVerify": True}}, False),
        ({"docker": {"host": URL, "skiptlsverify": "yes"}}, True),
    ],
)
def test_context(endpoints: object, *, verify: bool) -> None:
    """The host of a context is its URL."""
    text = json.dumps({"Name": "a", "Metadata": {}, "Endpoints": endpoints})

    assert {"url": URL, "tls_verify": verify} == parse_context(text)


@pytest.mark.parametrize(
    "endpoints",
    [[], [1], "x", {}, {"docker": 5}, {"docker": []}, {"docker": {"Host": 5}}, {"kubernetes": {}}],
)
def test_context_without_host(endpoints: object) -> None:
    """A context whose host is missing or not a text is refused."""
    with pytest.raises(ValueError, match="it has no host"):
        parse_context(json.dumps({"Endpoints": endpoints}))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000], ids=["empty", "open", "deep"])
def test_context_that_is_not_json(text: str) -> None:
    """A context that is not JSON is refused."""
    with pytest.raises(ValueError, match="it is not JSON"):
        parse_context(text)
