"""Builds by the Engine's own builder and by BuildKit, and all the ways in which they fail."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tarfile
import traceback
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.images import BuildSpec
from airflow_torchx.docker_engine import DockerEngine, build, buildkit
from airflow_torchx.docker_engine.connection import open_client, resolve
from airflow_torchx.errors import EngineUnreachableError, ImageBuildError
from tests.conftest import BUSYBOX
from tests.integration.second_daemon import wait_until
from tests.integration.stub import Stub, chunked, failure, json_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tests.integration.stub import Request

DOCKERFILE: Final = "Dockerfile.torchx"


def tar(files: Mapping[str, str | int]) -> Iterator[bytes]:
    """Yield a tar of files with these contents, or of so many bytes."""
    for name, content in files.items():
        entry = tarfile.TarInfo(name)
        text = b"" if isinstance(content, int) else content.encode()
        entry.size = content if isinstance(content, int) else len(text)
        yield entry.tobuf(tarfile.PAX_FORMAT)
        yield text
        rest = entry.size - len(text) + -entry.size % tarfile.BLOCKSIZE
        yield from (bytes(min(rest - done, 65_536)) for done in range(0, rest, 65_536))
    yield bytes(2 * tarfile.BLOCKSIZE)


class Daemon(NamedTuple):
    """A real daemon, and a name that everything built on it carries."""

    client: Any
    endpoint: Endpoint
    name: str

    @property
    def tag(self) -> str:
        """Return the name of the image."""
        return f"{self.name}:1"

    def dockerfile(self, *instructions: str) -> str:
        """Return a Dockerfile all of whose images can be found."""
        head = f"FROM {BUSYBOX} AS base\nLABEL {labels.APP_ID}={self.name}\n"
        return head + "\n".join(instructions)

    def spec(self, why: str | None) -> BuildSpec:
        """Return a build with BuildKit for some reason, or without."""
        return BuildSpec(tag=self.tag, dockerfile=DOCKERFILE, buildkit=why)

    def build(
        self, spec: BuildSpec, context: Iterable[bytes], on_line: Callable[[str], None]
    ) -> str:
        """Build with the builder that this build needs."""
        if spec.buildkit:
            return buildkit.build(self.endpoint, spec, context, on_line)
        return build.build(self.client, str(self.endpoint.url), spec, context, on_line)

    def images(self) -> list[dict[str, Any]]:
        """Return the images of this test, those without a name as well."""
        found: list[dict[str, Any]] = self.client.images(all=True, filters=self._filters)
        return found

    def containers(self) -> list[dict[str, Any]]:
        """Return the containers of this test."""
        found: list[dict[str, Any]] = self.client.containers(all=True, filters=self._filters)
        return found

    @property
    def _filters(self) -> dict[str, str]:
        return {"label": f"{labels.APP_ID}={self.name}"}


@pytest.fixture
def daemon(docker_engine: DockerEngine, app_id: str) -> Iterator[Daemon]:
    """Return a real daemon; what was built on it is removed."""
    assert docker_engine
    endpoint = resolve(Endpoint(), os.environ)
    client = open_client(endpoint)
    daemon = Daemon(client, endpoint, app_id)
    yield daemon

    wait_until(lambda: not processes_of(app_id))
    while images := daemon.images():
        parents = {image["ParentId"] for image in images}
        for image in images:
            if image["Id"] not in parents:
                client.remove_image(image["Id"], force=True)
    client.close()


def processes_of(word: str) -> list[str]:
    """Return the command lines of this host that hold a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line:
            found.append(line)
    return found


builders = pytest.mark.parametrize("why", [None, "RUN --mount"], ids=["classic", "buildkit"])


# What both builders do.


@pytest.mark.docker
@builders
def test_build(daemon: Daemon, why: str | None) -> None:
    """Build arguments, target, labels, name and the files of the context arrive in the image."""
    files = {
        "folder/file": "content",
        "late": "",
        DOCKERFILE: daemon.dockerfile(
            "ARG WORD",
            "ARG NOTHING=something",
            "COPY folder /copy",
            'RUN printf "\\033[31m%s\\033[0m %s.\\n" "$WORD" "$NOTHING"; cat /copy/file',
            "FROM base AS last",
            "RUN exit 1",
        ),
    }
    # Dear to no one, but nothing that a command line of this host shows.
    args = {"WORD": f"red {uuid.uuid4().hex}", "NOTHING": ""}
    spec = replace(daemon.spec(why), args=args, labels={"a": "b = c"}, target="base")
    seen: list[str] = []
    shown: list[str] = []

    def on_line(line: str) -> None:
        seen.append(line)
        shown.extend(processes_of(args["WORD"]))

    image_id = daemon.build(spec, tar(files), on_line)
    image = daemon.client.inspect_image(daemon.tag)

    assert image_id == image["Id"]
    assert "b = c" == image["Config"]["Labels"]["a"]
    assert any(line.endswith(f"{args['WORD']} .") for line in seen)
    assert any(line.endswith("content") for line in seen)
    assert [] == shown


@pytest.mark.docker
@builders
def test_failed_step(daemon: Daemon, why: str | None) -> None:
    """The error has the step, its command, its exit code and its last 20 lines."""
    step = f"RUN for i in $(seq 30); do echo {daemon.name} $i; done; printf end; exit 3"
    files = {DOCKERFILE: daemon.dockerfile("RUN echo earlier", step, "RUN echo later")}

    with pytest.raises(ImageBuildError) as raised:
        daemon.build(daemon.spec(why), tar(files), lambda _: None)

    number = "step 4 of 5" if why is None else "step 3 of 4"
    expected = [
        f"cannot build image '{daemon.tag}': {number} failed with exit code 3: {step}",
        "last lines:",
        *(f"  {daemon.name} {i}" for i in range(12, 31)),
        "  end",
    ]
    assert expected == raised.value.what.splitlines()
    assert f"Correct that step of '{DOCKERFILE}'" in raised.value.fix
    assert daemon.tag not in [tag for image in daemon.images() for tag in image["RepoTags"] or ()]
    assert [] == daemon.containers()


@pytest.mark.docker
@builders
@pytest.mark.parametrize(
    ("instruction", "what", "fix"),
    [
        ("FOO x", "unknown instruction: FOO", f"Correct '{DOCKERFILE}'"),
        ("COPY nothing /x", "failed: COPY nothing /x", ".dockerignore"),
        ("FROM no-such-registry.invalid/x:1", "FROM no-such-registry.invalid/x:1", "base image"),
        ("RUN dd if=/dev/zero of=/dev/full", "with exit code 1", "docker system df"),
        ("RUN exit 137", "with exit code 137", "out of memory"),
    ],
    ids=["syntax", "copy", "base", "disk", "killed"],
)
def test_advice(daemon: Daemon, why: str | None, instruction: str, what: str, fix: str) -> None:
    """The error of a common failure says what can be done."""
    files = {DOCKERFILE: daemon.dockerfile(instruction)}

    with pytest.raises(ImageBuildError) as raised:
        daemon.build(daemon.spec(why), tar(files), lambda _: None)

    assert raised.value.what.startswith(f"cannot build image '{daemon.tag}': ")
    assert what in raised.value.what
    assert fix in raised.value.fix


@pytest.mark.docker
@builders
@pytest.mark.parametrize(
    ("spec", "fix"),
    [
        (BuildSpec(tag="", dockerfile=DOCKERFILE, target="nope"), "FROM … AS"),
        (BuildSpec(tag="", dockerfile="nope"), "Check the path 'nope'"),
    ],
    ids=["target", "dockerfile"],
)
def test_what_is_not_there(daemon: Daemon, why: str | None, spec: BuildSpec, fix: str) -> None:
    """An error names the stage or the Dockerfile that does not exist."""
    wanted = replace(spec, tag=daemon.tag, buildkit=why)

    with pytest.raises(ImageBuildError, match="nope") as raised:
        daemon.build(wanted, tar({DOCKERFILE: daemon.dockerfile()}), lambda _: None)

    assert fix in raised.value.fix


@pytest.mark.docker
@builders
def test_proxies(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, why: str | None
) -> None:
    """Steps get the proxies of the docker configuration, unless a build argument says otherwise."""
    proxies = {"httpProxy": "http://me:hidden-word@proxy", "httpsProxy": "x", "noProxy": "a,b"}
    config = json.dumps({"proxies": {"default": proxies}})
    (tmp_path / "config.json").write_text(config)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    step = "RUN echo $HTTP_PROXY $http_proxy $https_proxy $NO_PROXY; exit 3"
    files, told = {DOCKERFILE: daemon.dockerfile(step)}, list[str]()
    spec = replace(daemon.spec(why), args={"https_proxy": "own"})

    with DockerEngine.connect(daemon.endpoint) as engine, pytest.raises(ImageBuildError) as raised:
        engine.images.build(spec, tar(files), told.append)

    expected = "http://***@proxy http://***@proxy own a,b"
    assert [True, True] == [expected in text for text in ("\n".join(told), str(raised.value))]
    assert "hidden-word" not in "\n".join(told) + str(raised.value)


@pytest.mark.docker
@builders
def test_second_build(daemon: Daemon, why: str | None) -> None:
    """The same build again runs no step."""
    files = {
        "a": "1",
        DOCKERFILE: daemon.dockerfile("COPY . /x", f"RUN echo {daemon.name}-$((6*7))"),
    }
    lines: list[list[str]] = [[], []]

    first, second = (daemon.build(daemon.spec(why), tar(files), told.append) for told in lines)

    runs = [sum(line.endswith(f"{daemon.name}-42") for line in told) for told in lines]
    assert [1, 0] == runs
    # BuildKit writes the time into the image.
    assert first == second or why is not None


@pytest.mark.docker
@builders
def test_context_of_200_mb(daemon: Daemon, why: str | None) -> None:
    """A large context passes through little memory."""
    code = f"""
import os, resource, sys
from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.docker_engine.connection import open_client, resolve
from tests.integration.test_builds import Daemon, tar
endpoint = resolve(Endpoint(), os.environ)
daemon = Daemon(open_client(endpoint), endpoint, {daemon.name!r})
def peak(size):
    dockerfile = daemon.dockerfile('COPY small /x')
    files = {{'small': '', 'large': size, {DOCKERFILE!r}: dockerfile}}
    daemon.build(daemon.spec({why!r}), tar(files), lambda _: None)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(-peak(1) + peak(200_000_000))
"""
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    assert int(answer.stdout) < 100_000


class OddError(OSError):
    """What only a context raises."""


@pytest.mark.docker
@builders
@pytest.mark.parametrize(
    "error", [OddError("why"), BrokenPipeError("why"), ValueError("why")], ids=repr
)
def test_context_that_raises(daemon: Daemon, why: str | None, error: Exception) -> None:
    """An exception of the context comes out unchanged, and nothing is built of its beginning."""

    def context() -> Iterator[bytes]:
        dockerfile = daemon.dockerfile(f"RUN echo {daemon.name}")
        yield from itertools.islice(tar({DOCKERFILE: dockerfile, "large": 1_000_000}), 12)
        raise error

    with pytest.raises(type(error)) as raised:
        daemon.build(daemon.spec(why), context(), lambda _: None)

    assert error is raised.value
    assert [] == processes_of(daemon.tag)
    assert [] == daemon.images()


@pytest.mark.docker
@builders
def test_build_given_up(daemon: Daemon, why: str | None) -> None:
    """When the caller gives up, the daemon stops the step; no process and container is left."""
    word = str(uuid.uuid4().int % 10**9 + 10**6)
    files = {DOCKERFILE: daemon.dockerfile(f"RUN echo started; sleep {word}")}
    running: list[str] = []

    def give_up(line: str) -> None:
        if line.endswith("started") and "RUN" not in line:
            wait_until(lambda: f"sleep {word} " in processes_of(word))
            running.extend(processes_of(word))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        daemon.build(daemon.spec(why), tar(files), give_up)

    assert running
    wait_until(lambda: not processes_of(word))
    wait_until(lambda: not daemon.containers())
    assert [] == processes_of(daemon.tag)


@pytest.mark.docker
@builders
def test_builder_killed(daemon: Daemon, why: str | None) -> None:
    """If this process dies while it sends the context, nothing is built of its beginning."""
    code = f"""
import itertools, os, signal
from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.docker_engine.connection import open_client, resolve
from tests.integration.test_builds import Daemon, tar, wait_until
endpoint = resolve(Endpoint(), os.environ)
daemon = Daemon(open_client(endpoint), endpoint, {daemon.name!r})
def context():
    pieces = tar({{{DOCKERFILE!r}: daemon.dockerfile(), 'large': 327_680, 'late': ''}})
    yield from itertools.islice(pieces, 10)
    os.kill(os.getpid(), signal.SIGKILL)
daemon.build(daemon.spec({why!r}), context(), lambda _: None)
"""
    answer = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)

    assert -9 == answer.returncode
    wait_until(lambda: not processes_of(daemon.tag))
    assert [] == daemon.images()


# What only BuildKit does.


@pytest.mark.docker
def test_mounts(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A step uses secrets and a cache that are in no layer, and masked where it prints them."""
    secrets = [uuid.uuid4().hex, uuid.uuid4().hex]
    monkeypatch.setenv("TEST_TOKEN", secrets[0])
    (tmp_path / "file").write_text(secrets[1])
    mounts = " ".join(f"--mount=type=secret,id={name}" for name in "ab")
    files = {
        DOCKERFILE: daemon.dockerfile(
            f"RUN {mounts} --mount=type=cache,target=/cache \\\n"
            f'echo "{daemon.name}" > /cache/x; echo "$(cat /run/secrets/a) $(cat /run/secrets/b)"'
        )
    }
    given = ("id=a,env=TEST_TOKEN", f"id=b,src={tmp_path / 'file'}")
    seen: list[str] = []

    daemon.build(replace(daemon.spec("build secrets"), secrets=given), tar(files), seen.append)

    assert any(line.endswith("*** ***") for line in seen)
    assert not [line for line in seen for secret in secrets if secret in line]
    image = b"".join(daemon.client.get_image(daemon.tag))
    assert daemon.name.encode() in image
    assert not [secret for secret in secrets if secret.encode() in image]


@pytest.mark.docker
def test_heredoc(daemon: Daemon) -> None:
    """A heredoc works, or the error says that the daemon's BuildKit is too old for it."""
    files = {DOCKERFILE: daemon.dockerfile("RUN <<EOF", "true", "EOF")}

    try:
        daemon.build(daemon.spec("RUN <<EOF in line 3"), tar(files), lambda _: None)
    except ImageBuildError as error:
        assert "too old for RUN <<EOF in line 3" in error.fix  # noqa: PT017 - either is right
    else:
        assert daemon.client.inspect_image(daemon.tag)


@pytest.mark.docker
@pytest.mark.parametrize("secret", ["id=x,src=/no/such/file", "id"])
def test_bad_secret(daemon: Daemon, secret: str) -> None:
    """An error names the secret that does not exist."""
    spec = replace(daemon.spec("build secrets"), secrets=(secret,))

    with pytest.raises(ImageBuildError) as raised:
        daemon.build(spec, tar({DOCKERFILE: daemon.dockerfile()}), lambda _: None)

    assert "Write a secret as id=NAME" in raised.value.fix


# The docker command line.


SPEC: Final = BuildSpec(
    tag="a:1",
    dockerfile=DOCKERFILE,
    args={"WORD": "dear"},
    labels={"a": "b"},
    target="base",
    secrets=("id=x,env=TOKEN",),
    buildkit="build secrets",
)


def program(folder: Path, script: str) -> str:
    """Make a docker command line of a script, and return its folder."""
    folder.mkdir()
    (folder / "docker").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "docker").chmod(0o755)
    return str(folder)


VERSION: Final = 'if [ "$1" = --version ]; then echo "Docker version {}, build 1"; exit; fi\n'
BUILDX: Final = (
    VERSION.format("29.0.1")
    + """if [ "$2" = version ]; then exit 0; fi
for word; do
    echo "#1 0.1 $word"
    case $word in --iidfile=*) echo sha256:1 > "${word#*=}" ;; esac
done
echo "#1 0.1 $DOCKER_HOST $DOCKER_CONTEXT $WORD"
exec cat > "$0.stdin"
"""
)


def run(path: str, endpoint: Endpoint, spec: BuildSpec = SPEC) -> tuple[str, list[str]]:
    """Build with one command line, and return the id of the image and what was printed."""
    told: list[str] = []
    found = buildkit.build(endpoint, spec, [bytes(1024)], told.append, path=path)
    return found, [line.removeprefix("#1 0.1 ") for line in told]


@pytest.mark.parametrize(
    ("endpoint", "tls", "host"),
    [
        (Endpoint(url="unix:///s"), [], "unix:///s"),
        (Endpoint(url="http+unix:///s"), [], "unix:///s"),
        (Endpoint(url="http://h:1"), [], "tcp://h:1"),
        (Endpoint(url="ssh://me@h"), [], "ssh://me@h"),
        (
            Endpoint(url="tcp://h:1", tls_ca="/a"),
            ["--tlsverify", "--tlscacert=/a"],
            "tcp://h:1",
        ),
        (
            Endpoint(url="https://h:1", tls_cert="/c", tls_private_key="/k", tls_verify=False),
            ["--tls", f"--tlscacert={DEFAULT_CA_BUNDLE_PATH}", "--tlscert=/c", "--tlskey=/k"],
            "tcp://h:1",
        ),
    ],
)
def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint, tls: list[str], host: str
) -> None:
    """The plugin buildx builds on the daemon of the endpoint; no value of an argument is shown."""
    monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")

    found, words = run(program(tmp_path / "bin", BUILDX), endpoint)

    expected = [
        *tls,
        *("buildx", "build", "--builder=default", "--load", "--progress=plain"),
        *(f"--file={DOCKERFILE}", "--tag=a:1", "--target=base", "--label=a=b"),
        *("--secret=id=x,env=TOKEN", "--build-arg=WORD", "-"),
        f"{host}  dear",
    ]
    assert "sha256:1" == found
    assert expected == [word for word in words if not word.startswith("--iidfile=")]


def test_no_command_line(tmp_path: Path) -> None:
    """The error says why BuildKit is needed, and what each docker on PATH lacks."""
    old = program(tmp_path / "old", VERSION.format("28.2.2") + "exit 1")
    other = program(tmp_path / "other", "echo podman version 5")
    broken = program(tmp_path / "broken", "exit 1")
    path = os.pathsep.join([old, str(tmp_path / "nothing"), other, old, broken])

    with pytest.raises(ImageBuildError) as raised:
        run(path, Endpoint(url="unix:///s"))

    assert (
        f"cannot build image 'a:1': {DOCKERFILE} needs BuildKit (build secrets), but no docker "
        f"CLI on PATH supports it: {old}/docker (Docker version 28.2.2) lacks the buildx plugin; "
        f"{other}/docker is not a working docker CLI; {broken}/docker is not a working docker CLI."
    ) == raised.value.what
    assert "docker-buildx-plugin" in raised.value.fix
    with pytest.raises(ImageBuildError, match="supports it: none is installed"):
        run("", Endpoint(url="unix:///s"))


def test_later_command_line(tmp_path: Path) -> None:
    """The first docker on PATH that can do it is taken; an old one has BuildKit built in."""
    new = program(tmp_path / "new", VERSION.format("28.2.2") + "exit 1")
    old = BUILDX.replace("29.0.1", "20.10.24").replace("exit 0", "exit 1")

    _, words = run(f"{new}{os.pathsep}{program(tmp_path / 'old', old)}", Endpoint(url="unix:///s"))

    assert ["build", "--progress=plain"] == words[:2]


@pytest.mark.parametrize("name", ["PATH", "DOCKER_HOST", "LD_PRELOAD", "TOKEN", "A=B", ""])
def test_reserved_names(tmp_path: Path, name: str) -> None:
    """No build argument changes what the docker command line does."""
    spec = BuildSpec(tag="a:1", dockerfile="D", args={name: "x"}, secrets=SPEC.secrets)

    with pytest.raises(ImageBuildError, match=f"another meaning: '{name}'"):
        run(program(tmp_path / "bin", BUILDX), Endpoint(url="unix:///s"), spec)


def test_daemon_out_of_reach(tmp_path: Path) -> None:
    """The error has the message of the docker command line itself."""
    script = (
        VERSION.format("20.10.1")
        + "echo 'Cannot connect to the Docker daemon at x. Is it?'\nexit 1"
    )

    with pytest.raises(ImageBuildError, match="'a:1': Cannot connect to the Docker") as raised:
        run(program(tmp_path / "bin", script), Endpoint(url="unix:///s"))

    assert "docker version" in raised.value.fix


def test_helpers_of_command_line(tmp_path: Path) -> None:
    """What a docker command line has started ends with it."""
    word = str(uuid.uuid4().int % 10**9 + 10**6)
    script = f"[ $1 = build ] || exit 1\nsleep {word} & echo started; wait"
    path = program(tmp_path / "bin", VERSION.format("20.10.1") + script)

    def give_up(_: str) -> None:
        wait_until(lambda: bool(processes_of(f"sleep {word}")))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        buildkit.build(Endpoint(url="unix:///s"), SPEC, [], give_up, path=path)

    wait_until(lambda: not processes_of(f"sleep {word}"))


def test_context_not_read(tmp_path: Path) -> None:
    """A docker command line that stops reading is listened to, not written to."""
    script = VERSION.format("20.10.1") + "exec 0<&-; sleep 0.1; echo 'ERROR: why'; exit 1"
    folder = program(tmp_path / "bin", script)

    with pytest.raises(ImageBuildError, match="'a:1': why"):
        buildkit.build(
            Endpoint(url="unix:///s"), SPEC, [bytes(1_000_000)], lambda _: None, path=folder
        )


def test_large_environment(tmp_path: Path) -> None:
    """An error says that a build argument is too long for any process."""
    spec = BuildSpec(tag="a:1", dockerfile="D", args={"A": "x" * 200_000})

    with pytest.raises(ImageBuildError, match="cannot start") as raised:
        run(program(tmp_path / "bin", BUILDX), Endpoint(url="unix:///s"), spec)

    assert "very long" in raised.value.fix


# A daemon that misbehaves.


def stubbed(
    address: Path,
    answer: Callable[[Request], Iterable[bytes]],
    on_line: Callable[[str], None] = print,
) -> str:
    """Build with a stub, with an argument that is dear to us."""
    endpoint = resolve(Endpoint(url=f"unix://{address}"), {})
    with Stub(answer, address), contextlib.closing(open_client(endpoint)) as client:
        spec = BuildSpec(tag="a:1", dockerfile="D", args={"A": "dear"})
        return build.build(client, str(endpoint.url), spec, [b"x"], on_line)


def lines(*events: dict[str, Any], end: bool = True) -> list[bytes]:
    """Return the stream of a build, the last answer of its connection.

    The stub leaves the context unread.
    """
    head, *rest = chunked(*(json.dumps(event).encode() + b"\r\n" for event in events), end=end)
    return [head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), *rest]


STEP: Final = {"stream": "Step 1/1 : FROM a\n"}


def test_refused(address: Path) -> None:
    """A daemon that does not begin is an error with its status, and without our arguments."""
    with pytest.raises(ImageBuildError, match="no such thing") as raised:
        stubbed(address, lambda _: failure(500, "no such thing"))

    assert 500 == raised.value.status
    assert raised.value.__cause__ is None


def test_no_daemon() -> None:
    """A daemon that has gone is no failed build; our arguments are not told either."""
    spec = BuildSpec(tag="a:1", dockerfile="D", args={"A": "dear"})
    with Stub(lambda _: [], ("127.0.0.1", 0)) as stub:
        endpoint = resolve(Endpoint(url=f"tcp://127.0.0.1:{stub.port}"), {})
        client = open_client(endpoint)

    with contextlib.closing(client), pytest.raises(EngineUnreachableError) as raised:
        build.build(client, str(endpoint.url), spec, [b"x"], print)

    assert "dear" not in "".join(traceback.format_exception(raised.value))


def test_pulled_base(address: Path) -> None:
    """The daemon may pull a base image; numbers on the way are left out."""
    pulled: list[dict[str, Any]] = [
        {"status": "Pulling from a", "id": "1"},
        {"status": "Downloading", "id": "b", "progressDetail": {"current": 1, "total": 2}},
        {"status": "Pull complete", "id": "b", "progressDetail": {}},
        {"status": "Status: done"},
        {"aux": {"ID": "sha256:1"}},
    ]
    told: list[str] = []

    def answer(request: Request) -> list[bytes]:
        return lines(STEP, *pulled) if request.method == "POST" else json_answer({"Id": "sha256:1"})

    assert "sha256:1" == stubbed(address, answer, told.append)
    assert ["1: Pulling from a", "b: Pull complete", "Status: done"] == told[1:]


def test_ended_early(address: Path) -> None:
    """A build that ends without an image is an error."""
    with pytest.raises(ImageBuildError, match="ended before the image was complete"):
        stubbed(address, lambda _: lines(STEP))


def test_cut(address: Path) -> None:
    """A build whose connection breaks is an error."""

    def cut(_: Request) -> Iterator[bytes]:
        yield from lines(STEP, end=False)
        raise ConnectionError

    with pytest.raises(EngineUnreachableError, match="cannot build image 'a:1'"):
        stubbed(address, cut)


def test_full_disk(address: Path) -> None:
    """A full disk of the daemon is an error that says so, in the stream as well."""
    full = {"error": "write /x: no space left on device"}

    with pytest.raises(ImageBuildError, match="step 1 of 1 failed: FROM a\nwrite /x") as raised:
        stubbed(address, lambda _: lines(STEP, full))

    assert "docker system df" in raised.value.fix
