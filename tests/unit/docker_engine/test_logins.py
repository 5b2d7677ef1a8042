"""The registry login that a request sends."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.engine.images import RegistryLogin
from airflow_torchx.docker_engine.logins import auth_header

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hidden-word"  # noqa: S105 - not a real one


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for the docker configuration, and for credential helpers."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_AUTH_CONFIG", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    configure(tmp_path, {})
    return tmp_path


def configure(folder: Path, config: dict[str, Any]) -> None:
    """Write a docker configuration."""
    (folder / "config.json").write_text(json.dumps(config))


def install(folder: Path, name: str, script: str) -> None:
    """Install a credential helper."""
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\nread -r host\n{script}\n")
    program.chmod(0o700)


def login(registry: str) -> RegistryLogin:
    """Return a login for a registry."""
    return RegistryLogin(registry=registry, username="me", password=SECRET)


def decoded(host: str, *logins: RegistryLogin) -> dict[str, str] | None:
    """Return the decoded header of a registry, with its keys in lower case."""
    text = auth_header(host, logins).value
    entry = json.loads(base64.urlsafe_b64decode(text)) if text else None
    return {key.lower(): value for key, value in entry.items() if value} if entry else None


def test_none(folder: Path) -> None:
    """Without any login, no header is sent."""
    configure(folder, {"auths": {"h:1": {}, "other": {"auth": "bWU6eA=="}}})

    assert decoded("h:1") is None
    assert decoded("h:1", login("h:2")) is None


@pytest.mark.parametrize(
    "spelling",
    ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io", ""],
)
def test_docker_hub(folder: Path, spelling: str) -> None:
    """All names of Docker Hub find its login, which is sent with Docker's own name for it."""
    assert folder.is_dir()
    assert decoded("docker.io", login(spelling)) == {
        "username": "me",
        "password": SECRET,
        "serveraddress": "https://index.docker.io/v1/",
    }


def test_our_login_wins(folder: Path) -> None:
    """A given login precedes the docker configuration, the first one wins, and ports matter."""
    configure(folder, {"auths": {"h:1": {"auth": base64.b64encode(b"cli:x").decode()}}})
    logins = [
        login("h"),
        login("http://h:1/v2"),
        RegistryLogin(registry="h:1", username="second", password=SECRET),
    ]

    assert "me" == (decoded("h:1", *logins) or {})["username"]
    assert "cli" == (decoded("h:1", login("h:2")) or {})["username"]


def test_configuration_is_read_anew(folder: Path) -> None:
    """A later `docker login` is used by the next request."""
    assert decoded("docker.io") is None

    auth = base64.b64encode(b"cli:x").decode()
    configure(folder, {"auths": {"https://index.docker.io/v1/": {"auth": auth}}})

    assert "cli" == (decoded("docker.io") or {})["username"]


def test_identity_token(folder: Path) -> None:
    """An identity token from a helper is sent without a user name."""
    configure(folder, {"credHelpers": {"h:1": "mine"}})
    install(folder, "mine", f"""echo '{{"Username": "<token>", "Secret": "{SECRET}"}}'""")

    assert {"identitytoken": SECRET, "serveraddress": "h:1"} == decoded("h:1")


def test_helper_that_knows_nothing(folder: Path) -> None:
    """A helper is asked for Docker Hub by its URL, and a missing entry is not an error."""
    configure(folder, {"credsStore": "mine"})
    said = "credentials not found in native keychain"
    install(folder, "mine", f'echo "$host" >"$0.asked"; echo "{said}"; exit 1')

    assert decoded("docker.io") is None
    assert "https://index.docker.io/v1/\n" == (folder / "docker-credential-mine.asked").read_text()


@pytest.mark.parametrize(
    "script",
    [
        f"echo {SECRET}; exit 1",
        "exit 0",
        f"echo {SECRET}",
        f"""echo '["{SECRET}"]'""",
        f"""echo '{{"Secret": "{SECRET}"}}'""",
        f"printf '\\377{SECRET}'; exit 1",
    ],
    ids=["fails", "nothing", "no JSON", "a list", "no user", "no text"],
)
def test_helper_that_fails(folder: Path, script: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A failing helper is no login; its output is quoted nowhere, and the problem names it."""
    configure(folder, {"credHelpers": {"h:1": "mine"}})
    install(folder, "mine", f"echo {SECRET} >&2; {script}")

    header, problem = auth_header("h:1", ())

    assert header is None
    assert "The credential helper docker-credential-mine returned no login for h:1" in problem
    assert "`echo h:1 | docker-credential-mine get`" in problem
    assert SECRET not in problem
    assert ("", "") == capfd.readouterr()


@pytest.mark.parametrize("name", ["nowhere", "", "../x", "a b", "a\0b"])
def test_helper_that_is_missing(folder: Path, name: str) -> None:
    """A missing helper is no login; the problem names it and the settings that refer to it."""
    configure(folder, {"credHelpers": {"h:1": name}, "credsStore": "nowhere"})

    header, problem = auth_header("h:1", ())

    assert header is None
    if name:
        assert f"docker-credential-{name}, configured for h:1, is not on PATH" in problem
        assert "credsStore or credHelpers" in problem
    else:
        assert not problem


def test_a_login_in_the_file_beside_a_helper(folder: Path) -> None:
    """Without an answer of the helper, the login in the file is sent."""
    auth = base64.b64encode(b"cli:x").decode()
    configure(folder, {"credsStore": "nowhere", "auths": {"h:1": {"auth": auth}}})

    assert "cli" == (decoded("h:1") or {})["username"]
    assert "" == auth_header("h:1", ()).problem


def entry(user: str) -> dict[str, str]:
    """Return a login of the docker configuration."""
    return {"auth": base64.b64encode(f"{user}:{SECRET}".encode()).decode()}


def test_the_variable_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login in DOCKER_AUTH_CONFIG precedes helpers and the file, for its own registry only."""
    configure(folder, {"credHelpers": {"h:1": "nowhere"}, "auths": {"h:2": entry("file")}})
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {"h:1": entry("variable")}}))

    assert "variable" == (decoded("h:1") or {})["username"]
    assert "file" == (decoded("h:2") or {})["username"]
    assert "me" == (decoded("h:1", login("h:1")) or {})["username"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (SECRET, "The variable DOCKER_AUTH_CONFIG is ignored: it is not JSON (line 1, column 1)."),
        (
            json.dumps({"auths": {"h:1": {"auth": SECRET}}}),
            "The login for h:1 in DOCKER_AUTH_CONFIG is damaged: correct it.",
        ),
        (json.dumps({"auths": {"h:1": {}}}), ""),
        (" ", ""),
    ],
    ids=["not JSON", "damaged", "no login", "blank"],
)
def test_a_broken_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch, value: str, problem: str
) -> None:
    """Without a login in DOCKER_AUTH_CONFIG, the file is read; the problem does not quote it."""
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", value)

    assert (None, problem) == auth_header("h:1", ())

    configure(folder, {"auths": {"h:1": entry("file")}})

    assert "file" == (decoded("h:1") or {})["username"]


@pytest.mark.parametrize(
    ("config", "installed", "user"),
    [
        ({}, ["secretservice"], "secretservice"),
        ({"auths": {}}, ["secretservice"], "secretservice"),
        ({}, ["secretservice", "pass"], "secretservice"),
        ({"auths": {"h:2": {}}}, ["secretservice"], None),
        ({"credHelpers": {"h:2": "mine"}}, ["secretservice"], None),
        ({}, ["mine"], None),
    ],
)
def test_the_default_helper(
    folder: Path, config: dict[str, Any], installed: list[str], user: str | None
) -> None:
    """A configuration without any login or helper means the helper that docker defaults to."""
    configure(folder, config)
    for name in installed:
        install(folder, name, f"""echo '{{"Username": "{name}", "Secret": "{SECRET}"}}'""")

    assert user == (decoded("h:1") or {}).get("username")


def test_the_default_helper_beside_pass(folder: Path) -> None:
    """The default helper is that of pass if both are installed."""
    install(folder, "pass", f"""echo '{{"Username": "pass", "Secret": "{SECRET}"}}'""")
    (folder / "pass").symlink_to("docker-credential-pass")

    assert "pass" == (decoded("h:1") or {})["username"]


def test_broken_login(folder: Path) -> None:
    """A damaged login is no login; the problem says how to renew it, and does not quote it."""
    configure(folder, {"auths": {"h:1": {"auth": SECRET}}})

    header, problem = auth_header("h:1", ())

    assert header is None
    assert "The login for h:1" in problem
    assert "`docker login h:1`" in problem
    assert SECRET not in problem


@pytest.mark.parametrize(
    ("content", "why"),
    [(f"{{{SECRET}", "it is not JSON (line 1, column 2)"), (None, "it cannot be read (Is a dir")],
)
def test_broken_configuration(folder: Path, content: str | None, why: str) -> None:
    """A configuration that cannot be read is no login; the problem has its path."""
    file = folder / "config.json"
    file.unlink()
    file.mkdir() if content is None else file.write_text(content)

    header, problem = auth_header("h:1", ())

    assert header is None
    assert f"A login for h:1 cannot be read: the docker configuration {file} is ignored" in problem
    assert why in problem
    assert SECRET not in problem


def test_a_login_hides_its_password() -> None:
    """The repr of a login does not contain its password."""
    assert SECRET not in repr(login("h"))


@pytest.mark.parametrize("word", ["pässwörd", "pä€ss日本", "п\u0300", "😀"])
def test_characters_beyond_ascii(folder: Path, word: str) -> None:
    """A user and a password of any characters are sent as they are, wherever they come from."""
    configure(
        folder, {"auths": {"h:1": {"auth": base64.b64encode(f"jürgen:{word}".encode()).decode()}}}
    )
    given = RegistryLogin(registry="h:1", username="jürgen", password=word)

    for found in (decoded("h:1"), decoded("h:1", given)):
        assert {"username": "jürgen", "password": word, "serveraddress": "h:1"} == found
    assert ["", ""] == [auth_header("h:1", logins).problem for logins in ([], [given])]


def test_a_login_that_is_not_in_utf8(folder: Path) -> None:
    """A login in Latin-1 stops no request, and is named if the registry refuses the login."""
    word = "pässwörd".encode("latin-1")
    given = RegistryLogin(
        registry="h:1", username="u", password=word.decode(errors="surrogateescape")
    )
    named = "The login for h:1 is not in UTF-8: enter it again."

    assert named == auth_header("h:1", [given]).problem
    (folder / "config.json").write_bytes(
        b'{"auths": {"h:1": {"username": "u", "password": "%b"}}}' % word
    )
    assert named == auth_header("h:1", []).problem
    configure(folder, {"auths": {"h:1": {"auth": base64.b64encode(b"u:" + word).decode()}}})
    assert "damaged" in auth_header("h:1", []).problem
