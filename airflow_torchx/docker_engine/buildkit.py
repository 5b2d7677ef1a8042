"""One build with BuildKit, which the docker command line speaks and Docker's SDK does not."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import re
import subprocess
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from airflow_torchx.core.workspace.build_report import BuildKitLog, TextLines, explain
from airflow_torchx.docker_engine import child
from airflow_torchx.errors import ImageBuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.core.engine.images import BuildSpec

_BLOCK_BYTES: Final = 65_536
_QUESTION_S: Final = 30.0
_VERSION: Final = re.compile(r"Docker version (\d+)\S*?(?=,|$)", re.MULTILINE)
#: From here on BuildKit is no longer built in.
_WITHOUT_BUILDKIT: Final = 23
#: What the docker command line or what it starts takes from its environment: no build argument
#: can pass through there under such a name.
_RESERVED: Final = re.compile(
    r"DOCKER_(HOST|CONTEXT|CONFIG|CERT_PATH|TLS\w*|API_VERSION|BUILDKIT|AUTH_CONFIG|CUSTOM_HEADERS"
    r"|CONTENT_TRUST\w*|DEFAULT_PLATFORM|CLI_\w+)|BUILDX_\w+|BUILDKIT_(HOST|PROGRESS|COLORS)"
    r"|PATH|HOME|TMPDIR|LD_\w+|GODEBUG|SSL_CERT_\w+|.*[=\0].*|"
)
#: Of our own environment, what would send a build to another daemon or builder.
_ELSEWHERE: Final = re.compile(
    "DOCKER_(CONTEXT|CERT_PATH|TLS|TLS_VERIFY|API_VERSION)|BUILDX_BUILDER|BUILDKIT_HOST"
)
_SCHEMES: Final = {"http+unix": "unix", "http": "tcp", "https": "tcp"}
#: Shorter secrets would make other words unreadable too.
_MIN_SECRET_CHARS: Final = 5
_MAX_SECRET_BYTES: Final = 65_536


class _Cli(NamedTuple):
    """A docker command line that can do it.

    Args:
        path: of its program.
        build: the subcommand.
    """

    path: str
    build: tuple[str, ...]


def build(
    endpoint: Endpoint,
    spec: BuildSpec,
    context: Iterable[bytes],
    on_line: Callable[[str], None],
    *,
    path: str | None = None,
) -> str:
    """Build a Dockerfile and return the id of the image; no process and no container is left.

    Args:
        endpoint: the daemon; resolved.
        spec: what to build. A secret that a step prints is masked.
        context: an uncompressed tar in pieces of any size, with the Dockerfile in it; what it
            raises comes out as it is, and the daemon gives up.
        on_line: called with every line that the build prints, and with an empty one several times a
            second while it prints none; if it raises, the daemon gives up.
        path: folders to look for a docker command line, like PATH; None for PATH itself.

    Raises:
        ImageBuildError: a step failed, and which; or no docker command line can do BuildKit.
    """
    cli = _find(spec, os.environ.get("PATH", os.defpath) if path is None else path)
    _check_names(spec)
    log, lines, secrets = BuildKitLog(), TextLines(), _secret_values(spec)

    def tell(told: Iterable[str]) -> None:
        for line in itertools.chain.from_iterable(map(log.split, told)):
            for secret in secrets:
                line = line.replace(secret, "***")  # noqa: PLW2901 - one after the other
            log.add(line)
            on_line(line)

    with tempfile.TemporaryDirectory(prefix="airflow-torchx-") as folder:
        id_file = Path(folder, "id")
        command = _command(cli, endpoint, spec, id_file)
        try:
            process = child.start(command, _environment(endpoint, spec, folder))
        except OSError as error:
            raise ImageBuildError(
                f"cannot build image {spec.tag!r}: {cli.path} did not start: {error.strerror}.",
                fix="Check that program, and that build arguments and labels are not very long.",
            ) from error
        with child.ending(process):
            child.converse(
                process, _packed(context), lambda text: tell(lines.feed(text) if text else [""])
            )
        tell(lines.flush())
        image_id = id_file.read_text().strip() if id_file.exists() else ""
    if process.returncode or not image_id:
        what, fix = explain(spec, log.failure())
        raise ImageBuildError(what, fix=fix)
    return image_id


def _find(spec: BuildSpec, path: str) -> _Cli:
    lacking = []
    for program in _programs(path):
        version = _VERSION.search(_ask(program, "--version") or "")
        if version is None:  # podman answers to this name too, and has another daemon
            lacking.append(f"{program} is no docker command line that answers")
        elif _ask(program, "buildx", "version") is not None:
            # A builder of the user's own choice may be on another daemon.
            return _Cli(program, ("buildx", "build", "--builder=default", "--load"))
        elif int(version[1]) < _WITHOUT_BUILDKIT:
            return _Cli(program, ("build",))
        else:
            lacking.append(f"{program} ({version[0]}) lacks the plugin buildx")
    raise ImageBuildError(
        f"cannot build image {spec.tag!r}: {spec.dockerfile} needs BuildKit ({spec.buildkit}), and "
        f"no docker command line on PATH can do it: {'; '.join(lacking) or 'there is none'}.",
        fix="Install docker with its plugin buildx (docker-buildx-plugin) where this runs, or do "
        "without what needs BuildKit.",
    )


def _programs(path: str) -> Iterator[str]:
    """Yield every docker on a path, each once."""
    seen = set()
    for folder in filter(None, path.split(os.pathsep)):
        program = Path(folder, "docker")
        if program.is_file() and os.access(program, os.X_OK) and program.resolve() not in seen:
            seen.add(program.resolve())
            yield str(program)


def _ask(program: str, *args: str) -> str | None:
    """Return what a short command prints; None if it fails."""
    try:
        answer = subprocess.run(  # noqa: S603 - a docker on PATH, with words of our own
            [program, *args], capture_output=True, check=True, timeout=_QUESTION_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.decode(errors="replace")


def _check_names(spec: BuildSpec) -> None:
    taken = {_fields(secret).get("env") for secret in spec.secrets}
    names = [name for name in spec.args if _RESERVED.fullmatch(name) or name in taken]
    if names:
        raise ImageBuildError(
            f"cannot build image {spec.tag!r}: with BuildKit, build arguments pass through the "
            f"environment of the docker command line, where these mean something else: "
            f"{', '.join(map(repr, names))}.",
            fix=f"Give them other names, also in {spec.dockerfile}.",
        )


def _command(cli: _Cli, endpoint: Endpoint, spec: BuildSpec, id_file: Path) -> list[str]:
    command = [cli.path, *_tls_flags(endpoint), *cli.build, "--progress=plain"]
    command += [f"--iidfile={id_file}", f"--file={spec.dockerfile}", f"--tag={spec.tag}"]
    command += [f"--target={spec.target}"] if spec.target else []
    command += [f"--label={name}={value}" for name, value in spec.labels.items()]
    command += [f"--secret={secret}" for secret in spec.secrets]
    # Without their values, which everybody on this host could read here.
    command += [f"--build-arg={name}" for name in spec.args]
    return [*command, "-"]


def _environment(endpoint: Endpoint, spec: BuildSpec, empty: str) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not _ELSEWHERE.fullmatch(key)}
    scheme, _, rest = str(endpoint.url).partition("://")
    return {
        **own,
        "DOCKER_HOST": f"{_SCHEMES.get(scheme, scheme)}://{rest}",
        "DOCKER_CERT_PATH": empty,  # or certificates of ~/.docker would be used
        "DOCKER_BUILDKIT": "1",
        # An attestation would make an index of the image.
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        **spec.args,
    }


def _tls_flags(endpoint: Endpoint) -> list[str]:
    if not endpoint.uses_tls:
        return []
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    flags = ["--tlsverify" if endpoint.tls_verify else "--tls"]
    # Docker 20.10 wants some authority, and panics where it is given an empty one.
    flags += [f"--tlscacert={endpoint.tls_ca or DEFAULT_CA_BUNDLE_PATH}"]
    flags += [f"--tlscert={endpoint.tls_cert}"] if endpoint.tls_cert else []
    return [*flags, f"--tlskey={endpoint.tls_private_key}"] if endpoint.tls_private_key else flags


def _fields(secret: str) -> dict[str, str]:
    row = next(csv.reader([secret]), [])
    return {key.lower(): value for key, _, value in (field.partition("=") for field in row)}


def _secret_values(spec: BuildSpec) -> list[str]:
    """Return what must not be printed, the longest first."""
    values: set[str] = set()
    for fields in map(_fields, spec.secrets):
        text = os.environ.get(fields.get("env") or fields.get("id", ""), "")
        if source := fields.get("src") or fields.get("source"):
            with contextlib.suppress(OSError), Path(source).open("rb") as file:
                text = file.read(_MAX_SECRET_BYTES).decode(errors="replace")
        values |= {line.strip() for line in text.splitlines()}
    return sorted((v for v in values if len(v) >= _MIN_SECRET_CHARS), key=len, reverse=True)


def _packed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a tar as gzip without compression, 64 KiB or a little more at a time.

    If this process dies, the docker command line sees its input end. A tar that ends early can
    pass for a whole one, and a gzip cannot. Nor does every docker command line know a tar whose
    first entry has an extended header.
    """
    packer = zlib.compressobj(level=0, wbits=31)
    for piece in pieces:
        for start in range(0, len(piece), _BLOCK_BYTES):
            if packed := packer.compress(piece[start : start + _BLOCK_BYTES]):
                yield packed
    yield packer.flush()
