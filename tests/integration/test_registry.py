"""Pushes and pulls between a real daemon and a real registry, and the ways in which they fail."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine.images import RegistryLogin
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.docker_engine.connection import open_client, resolve
from airflow_torchx.docker_engine.pull import pull
from airflow_torchx.docker_engine.push import is_published, push
from airflow_torchx.errors import EngineError, ImagePullError, ImagePushError
from airflow_torchx.runtime import images
from tests.conftest import require_docker
from tests.integration.registry import PASSWORD, USER, Wire, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from airflow_torchx.core.plan.option_kinds import PullPolicy
    from tests.integration.registry import Registry

pytestmark = pytest.mark.docker

MB: Final = 1_000_000
ENCODED: Final = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Bench:
    """A daemon, images made on it, and the progress lines about them.

    Args:
        client: of the SDK.
        endpoint: of the daemon.
        word: in the name of every image.
    """

    def __init__(self, client: Any, endpoint: Endpoint, word: str) -> None:  # noqa: ANN401
        self.client = client
        self.endpoint = endpoint
        self.word = word
        self.told: list[str] = []
        self.slept_s: list[float] = []

    def image(self, host: str, size_bytes: int = 1000, *, version: str = "1") -> str:
        """Make an image of one layer that no other has, and return its name."""
        repository = f"{host}/{self.word}"
        self.client.import_image_from_data(_tar("base", size_bytes), repository, version)
        return f"{repository}:{version}"

    def grown(self, image: str, size_bytes: int, version: str) -> str:
        """Add a layer to an image and return the name of the new one."""
        repository = image.rpartition(":")[0]
        container = self.client.create_container(image, ["none"])["Id"]
        try:
            self.client.put_archive(container, "/", _tar("more", size_bytes))
            self.client.commit(container, repository, version)
        finally:
            self.client.remove_container(container)
        return f"{repository}:{version}"

    def id_of(self, image: str) -> str:
        """Return an image's id."""
        return str(self.client.inspect_image(image)["Id"])

    def push(self, image: str, *logins: RegistryLogin) -> None:
        """Push an image without sleeping."""
        url = str(self.endpoint.url)
        push(self.client, url, image, logins, self.told.append, self.slept_s.append)

    def pull(self, image: str, *logins: RegistryLogin) -> None:
        """Pull an image."""
        pull(self.client, str(self.endpoint.url), image, logins, self.told.append)

    def has(self, image: str, *logins: RegistryLogin) -> bool:
        """Tell whether the registry has an image."""
        return is_published(self.client, str(self.endpoint.url), image, logins)

    def remove(self, image: str) -> None:
        """Remove an image from the daemon."""
        self.client.remove_image(image)

    def own_tags(self) -> list[str]:
        """Return the images that were made and are still there."""
        tags = [tag for row in self.client.images() for tag in row["RepoTags"] or ()]
        return [tag for tag in tags if self.word in tag]


def _tar(name: str, size_bytes: int) -> bytes:
    """Return a tar with one file of random bytes, which do not compress."""
    packed, content = io.BytesIO(), os.urandom(size_bytes)
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = size_bytes
        tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture(scope="module")
def endpoint() -> Endpoint:
    """Return where the daemon is, found before a test changes the docker configuration."""
    require_docker().close()
    return resolve(Endpoint(), os.environ)


@pytest.fixture
def bench(
    endpoint: Endpoint, app_id: str, config: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[Bench]:
    """Return a daemon on which nothing is left, and in whose logs no password ever was."""
    assert config.is_dir()
    caplog.set_level("DEBUG")
    with closing(open_client(endpoint)) as client:
        bench = Bench(client, endpoint, app_id)
        yield bench

        for tag in bench.own_tags():
            client.remove_image(tag)

        assert [] == bench.own_tags()
    assert PASSWORD not in caplog.text
    assert ENCODED not in caplog.text


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder for the configuration of the docker command line."""
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "config.json").write_text("{}")  # else the user's own one is read
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


def wrong(login: RegistryLogin) -> RegistryLogin:
    """Return a login with a wrong password."""
    return RegistryLogin(registry=login.registry, username=login.username, password="wrong")  # noqa: S106


def test_a_pushed_image_comes_back(bench: Bench, registry: Registry) -> None:
    """What was pushed is pulled again after it was removed, and is the same image."""
    image = bench.image(registry.host)
    id_ = bench.id_of(image)
    assert not bench.has(image, registry.login)

    bench.push(image, registry.login)
    bench.remove(image)
    bench.pull(image, registry.login)

    assert id_ == bench.id_of(image)
    assert bench.has(image, registry.login)


@pytest.mark.parametrize("spelling", ["http://{}", "https://{}/v2/", "{}/some/path"])
def test_a_login_may_spell_its_registry_in_any_way(
    bench: Bench, registry: Registry, spelling: str
) -> None:
    """A login's registry may have a scheme and a path."""
    login = RegistryLogin(registry=spelling.format(registry.host), username=USER, password=PASSWORD)
    image = bench.image(registry.host)

    bench.push(image, login)

    assert bench.has(image, login)


def test_push_without_login(bench: Bench, registry: Registry) -> None:
    """The error says which connection to make, and what to run instead."""
    image = bench.image(registry.host)

    with pytest.raises(ImagePushError) as raised:
        bench.push(image)

    assert f"cannot push image {image!r} to {registry.host}: " in raised.value.what
    assert raised.value.fix == (
        f"No login is configured for {registry.host}: add an Airflow connection of type `docker` "
        f"with host {registry.host} to docker_conn_ids, or run `docker login {registry.host}` on "
        "this host."
    )
    assert not bench.has(image)
    assert not bench.has(image, registry.login)
    assert [] == bench.slept_s


def test_push_with_wrong_login(bench: Bench, registry: Registry) -> None:
    """A refused login is an error at once, without its password."""
    image = bench.image(registry.host)

    with pytest.raises(ImagePushError, match="Check user, password") as raised:
        bench.push(image, wrong(registry.login))

    assert "wrong" not in str(raised.value)
    assert not bench.has(image, wrong(registry.login))
    assert [] == bench.slept_s


@pytest.mark.parametrize("is_wrong", [True, False], ids=["wrong login", "no login"])
def test_pull_without_right_login(bench: Bench, registry: Registry, *, is_wrong: bool) -> None:
    """The error says which connection to make, and the image is not there."""
    image = bench.image(registry.host)
    bench.push(image, registry.login)
    bench.remove(image)

    with pytest.raises(ImagePullError) as raised:
        bench.pull(image, *[wrong(registry.login)] * is_wrong)

    assert f"connection of type `docker` with host {registry.host}" in raised.value.fix
    assert [] == bench.own_tags()


def test_login_of_the_docker_command_line(bench: Bench, registry: Registry, config: Path) -> None:
    """Without a login of ours, `docker login`'s is used; with one, ours."""
    auths = {"auths": {registry.host: {"auth": ENCODED}}}
    (config / "config.json").write_text(json.dumps(auths))
    image = bench.image(registry.host)

    bench.push(image)

    assert bench.has(image)
    assert not bench.has(image, wrong(registry.login))


@pytest.mark.parametrize("key", ["credHelpers", "credsStore"])
def test_credential_helper(
    bench: Bench, registry: Registry, config: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """The credential helper of the docker configuration provides the login."""
    answer = json.dumps({"ServerURL": registry.host, "Username": USER, "Secret": PASSWORD})
    asked = f'read -r host; [ "$1 $host" = "get {registry.host}" ]'
    helper = config / "docker-credential-mine"
    helper.write_text(f"#!/bin/sh\n{asked} && echo '{answer}'\n")
    helper.chmod(0o700)
    monkeypatch.setenv("PATH", str(config), prepend=os.pathsep)
    named = {registry.host: "mine"} if key == "credHelpers" else "mine"
    (config / "config.json").write_text(json.dumps({key: named}))
    image = bench.image(registry.host)

    bench.push(image)
    bench.remove(image)
    bench.pull(image)

    assert [image] == bench.own_tags()


@pytest.mark.parametrize(("verb", "error"), [("push", ImagePushError), ("pull", ImagePullError)])
def test_missing_credential_helper(
    bench: Bench, registry: Registry, config: Path, verb: str, error: type[EngineError]
) -> None:
    """If a registry wants a login, the error names the credential helper that is missing."""
    (config / "config.json").write_text(json.dumps({"credsStore": "nowhere"}))
    image = bench.image(registry.host)
    if verb == "pull":
        bench.push(image, registry.login)
        bench.remove(image)

    with pytest.raises(error, match=f"cannot {verb} image '{image}'") as raised:
        getattr(bench, verb)(image)

    assert "docker-credential-nowhere, configured for" in raised.value.fix


def test_layers_that_are_there_are_not_sent_again(bench: Bench, registry: Registry) -> None:
    """A push sends only the new layers of an image."""
    with Wire(registry.host) as wire:
        image = bench.image(wire.host, 6 * MB)
        bench.push(image, _through(wire, registry))
        first_bytes = wire.sent_bytes
        grown = bench.grown(image, MB // 2, "2")
        bench.push(grown, _through(wire, registry))
        second_bytes = wire.sent_bytes - first_bytes
        bench.push(grown, _through(wire, registry))
        third_bytes = wire.sent_bytes - first_bytes - second_bytes

    assert first_bytes > 6 * MB
    assert MB // 2 < second_bytes < MB
    assert third_bytes < MB // 10


def _through(wire: Wire, registry: Registry) -> RegistryLogin:
    login = registry.login
    return RegistryLogin(registry=wire.host, username=login.username, password=login.password)


def _is_manifest(piece: bytes, _: int) -> bool:
    return piece.startswith(b"PUT /v2/") and b"/manifests/" in piece


def _after_2_mb(_: bytes, sent_bytes: int) -> bool:
    return sent_bytes > 2 * MB


def test_push_that_is_cut_once(bench: Bench, registry: Registry) -> None:
    """A push that breaks is tried again after a second, with a message."""
    with Wire(registry.host, _is_manifest) as wire:
        image = bench.image(wire.host, 6 * MB)
        bench.push(image, _through(wire, registry))
        assert 1 == wire.cut
        assert bench.has(image, _through(wire, registry))

    assert [1.0] == bench.slept_s
    assert [line for line in bench.told if "retrying in 1 s" in line]
    assert wire.sent_bytes < 7 * MB


def test_layer_that_is_cut_once(bench: Bench, registry: Registry) -> None:
    """The daemon itself retries a layer that breaks in the middle, and the push goes on."""
    with Wire(registry.host, _after_2_mb) as wire:
        image = bench.image(wire.host, 6 * MB)
        bench.push(image, _through(wire, registry))
        assert 1 == wire.cut
        assert bench.has(image, _through(wire, registry))

    assert [] == bench.slept_s


def test_push_that_is_always_cut(bench: Bench, registry: Registry) -> None:
    """After four attempts it is an error that names the registry."""
    with Wire(registry.host, _is_manifest, times=100) as wire:
        image = bench.image(wire.host, 6 * MB)
        with pytest.raises(ImagePushError, match="Check the network between") as raised:
            bench.push(image, _through(wire, registry))
        assert 4 == wire.cut
        assert not bench.has(image, _through(wire, registry))

    assert wire.host in raised.value.what
    assert [1.0, 2.0, 4.0] == bench.slept_s


def test_registry_that_goes_away(bench: Bench, registry: Registry) -> None:
    """After a cut, a registry that is out of reach may be about to come back."""
    with Wire(registry.host, _is_manifest) as wire:
        image = bench.image(wire.host)
        waits = bench.slept_s

        def sleep(pause_s: float) -> None:
            waits.append(pause_s)
            wire.hang_up()

        with pytest.raises(ImagePushError, match="that a registry runs at") as raised:
            push(
                bench.client,
                str(bench.endpoint.url),
                image,
                [_through(wire, registry)],
                bench.told.append,
                sleep,
            )

    assert "connection refused" in raised.value.what
    assert [1.0, 2.0, 4.0] == waits


def test_registry_that_is_not_there(bench: Bench, tmp_path: Path) -> None:
    """A registry that does not exist is an error at once, which names the host."""
    with serving(tmp_path) as gone:
        pass
    image = bench.image(gone.host)

    with pytest.raises(ImagePushError) as raised:
        bench.push(image, gone.login)

    assert f"that a registry runs at {gone.host}" in raised.value.fix
    assert [] == bench.slept_s
    assert not bench.has(image, gone.login)


def test_registry_without_tls(bench: Bench, registry: Registry) -> None:
    """Off 127.0.0.0/8 a daemon insists on TLS: the error names the setting that makes it yield."""
    image = bench.image(registry.host.replace("127.0.0.1", "0.0.0.0"))  # noqa: S104 - not bound to

    with pytest.raises(ImagePushError, match="insecure-registries"):
        bench.push(image, registry.login)
    with pytest.raises(ImagePullError, match="insecure-registries"):
        bench.pull(image, registry.login)


def test_registry_that_asks_for_no_login(bench: Bench, tmp_path: Path) -> None:
    """A registry without logins accepts a push with a login and without."""
    with serving(tmp_path, auth=False) as free:
        image = bench.image(free.host)

        bench.push(image)
        bench.push(image, free.login)

        assert bench.has(image)


def test_image_that_is_not_there(bench: Bench, registry: Registry) -> None:
    """A push of a missing image says what to do."""
    image = f"{registry.host}/{bench.word}:none"

    with pytest.raises(ImagePushError, match="docker tag IMAGE"):
        bench.push(image, registry.login)

    assert not bench.has(image, registry.login)


@pytest.fixture
def gone(bench: Bench, tmp_path: Path) -> Registry:
    """Return a registry that is stopped; the daemon has an image of it."""
    with serving(tmp_path) as registry:
        bench.push(bench.image(registry.host), registry.login)
    return registry


def ensure(bench: Bench, policy: PullPolicy, images_: Sequence[str]) -> None:
    """Bring images to the daemon."""
    with DockerEngine.connect(bench.endpoint) as engine:
        images.ensure(engine, images_, policy)


@pytest.mark.parametrize("policy", ["missing", "never", "if_possible"])
def test_image_that_is_here(
    bench: Bench, gone: Registry, policy: PullPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    """A local image is used when the registry is out of reach, with a warning if a pull was due."""
    image = f"{gone.host}/{bench.word}:1"

    ensure(bench, policy, [image])

    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert (policy == "if_possible") == any(
        f"using image {image} as it is on the daemon: cannot pull image {image!r}" in line
        for line in warned
    )


@pytest.mark.parametrize(
    ("policy", "version"),
    [("always", "1"), ("always", "2"), ("missing", "2"), ("if_possible", "2")],
)
def test_image_that_cannot_be_had(
    bench: Bench, gone: Registry, policy: PullPolicy, version: str
) -> None:
    """A pull that must happen fails when the registry is out of reach."""
    with pytest.raises(ImagePullError, match=f"that a registry runs at {gone.host}"):
        ensure(bench, policy, [f"{gone.host}/{bench.word}:{version}"])
