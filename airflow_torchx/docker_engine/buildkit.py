"""Building an image with BuildKit through the docker CLI; Docker's SDK does not support it."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import re
import subprocess
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from airflow_torchx.core.plan.redact import PROXY_VARIABLES, proxy_secrets, redact
from airflow_torchx.core.workspace.build_report import BuildKitLog, TextLines, explain
from airflow_torchx.docker_engine import child
from airflow_torchx.errors import ImageBuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.core.engine.images import BuildSpec

_BLOCK_BYTES: Final = 65_536
_CLI_TIMEOUT_S: Final = 30.0
_VERSION: Final = re.compile(r"Docker version (\d+)\S*?(?=,|$)", re.MULTILINE)
#: The first major version of the CLI that needs the buildx plugin for BuildKit.
_FIRST_WITHOUT_BUILDKIT: Final = 23
#: Variables that the docker CLI or its child processes read, so build arguments cannot use them.
_RESERVED: Final = re.compile(
    r"DOCKER_(HOST|CONTEXT|CONFIG|CERT_PATH|TLS\w*|API_VERSION|BUILDKIT|AUTH_CONFIG|CUSTOM_HEADERS"
    r"|CONTENT_TRUST\w*|DEFAULT_PLATFORM|CLI_\w+)|BUILDX_\w+|BUILDKIT_(HOST|PROGRESS|COLORS)"
    r"|PATH|HOME|TMPDIR|LD_\w+|GODEBUG|SSL_CERT_\w+|.*[=\0].*|"
)
#: Variables of our environment that would select another daemon or builder.
_REDIRECTING: Final = re.compile(
    "DOCKER_(CONTEXT|CERT_PATH|TLS|TLS_VERIFY|API_VERSION)|BUILDX_BUILDER|BUILDKIT_HOST"
)
_SCHEMES: Final = {"http+unix": "unix", "http": "tcp", "https": "tcp"}
_MAX_SECRET_BYTES: Final = 65_536


class _Cli(NamedTuple):
    """The executable of a docker CLI that supports BuildKit, and its arguments to start a build."""

    path: str
    build: tuple[str, ...]


def build(
    endpoint: Endpoint,
    spec: BuildSpec,
    context: Iterable[bytes],
    on_line: Callable[[str], None],
    proxy_env: Mapping[str, str] = MappingProxyType({}),
    *,
    path: str | None = None,
) -> str:
    """Build a Dockerfile as `Images.build` describes, and return the id of the image.

    No process is left behind, and secrets are masked in the output. So are those of ``proxy_env``,
    which the docker CLI itself finds in its configuration. An error that ``context`` or
    ``on_line`` raises is raised unchanged and cancels the build. The endpoint is resolved. ``path``
    has the folders to search for a docker CLI, in the form of PATH; None for PATH itself.

    Raises:
        ImageBuildError: a step failed, or no docker CLI with BuildKit was found.
    """
    cli = _find_cli(spec, os.environ.get("PATH", os.defpath) if path is None else path)
    spec = replace(spec, args=_with_spellings(spec.args))
    _check_names(spec)
    log, lines = BuildKitLog(), TextLines()
    secrets = _secret_values(spec) | proxy_secrets(proxy_env)

    def report(new_lines: Iterable[str]) -> None:
        for line in itertools.chain.from_iterable(map(log.split, new_lines)):
            line = redact(line, secrets)  # noqa: PLW2901 - before anything else sees it
            log.add(line)
            on_line(line)

    with tempfile.TemporaryDirectory(prefix="airflow-torchx-") as folder:
        id_file = Path(folder, "id")
        command = _command(cli, endpoint, spec, id_file)
        try:
            process = child.start(command, _environment(endpoint, spec, folder))
        except OSError as error:
            raise ImageBuildError(
                f"cannot build image {spec.tag!r}: cannot start {cli.path}: {error.strerror}.",
                fix="Check that program; shorten build arguments and labels if they are very long.",
            ) from error
        with child.kill_on_exit(process):
            child.communicate(
                process, _packed(context), lambda text: report(lines.feed(text) if text else [""])
            )
        report(lines.flush())
        image_id = id_file.read_text().strip() if id_file.exists() else ""
    if process.returncode or not image_id:
        what, fix = explain(spec, log.failure())
        raise ImageBuildError(what, fix=fix)
    return image_id


def _find_cli(spec: BuildSpec, path: str) -> _Cli:
    problems = []
    for program in _programs(path):
        version = _VERSION.search(_output_of(program, "--version") or "")
        if version is None:  # podman installs a "docker" too
            problems.append(f"{program} is not a working docker CLI")
        elif _output_of(program, "buildx", "version") is not None:
            # Not the user's current builder, which may be on another daemon.
            return _Cli(program, ("buildx", "build", "--builder=default", "--load"))
        elif int(version[1]) < _FIRST_WITHOUT_BUILDKIT:
            return _Cli(program, ("build",))
        else:
            problems.append(f"{program} ({version[0]}) lacks the buildx plugin")
    raise ImageBuildError(
        f"cannot build image {spec.tag!r}: {spec.dockerfile} needs BuildKit ({spec.buildkit}), but "
        f"no docker CLI on PATH supports it: {'; '.join(problems) or 'none is installed'}.",
        fix="Install the docker CLI with its buildx plugin (docker-buildx-plugin) on this host, or "
        "remove what needs BuildKit from the Dockerfile.",
    )


def _programs(path: str) -> Iterator[str]:
    """Yield each docker executable on a path once."""
    seen = set()
    for folder in filter(None, path.split(os.pathsep)):
        program = Path(folder, "docker")
        if program.is_file() and os.access(program, os.X_OK) and program.resolve() not in seen:
            seen.add(program.resolve())
            yield str(program)


def _output_of(program: str, *args: str) -> str | None:
    """Return the output of a short command; None if it fails."""
    try:
        answer = subprocess.run(  # noqa: S603 - the user's docker, with fixed arguments
            [program, *args], capture_output=True, check=True, timeout=_CLI_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.decode(errors="replace")


def _with_spellings(args: Mapping[str, str]) -> dict[str, str]:
    """Return build arguments with each proxy in both spellings.

    Otherwise the docker CLI adds the other spelling from its configuration, and BuildKit takes one
    of them at random.
    """
    proxies = {name.swapcase(): args[name] for name in PROXY_VARIABLES if name in args}
    return {**proxies, **args}


def _check_names(spec: BuildSpec) -> None:
    taken = {_fields(secret).get("env") for secret in spec.secrets}
    names = [name for name in spec.args if _RESERVED.fullmatch(name) or name in taken]
    if names:
        raise ImageBuildError(
            f"cannot build image {spec.tag!r}: BuildKit passes build arguments through the "
            f"environment of the docker CLI, where these names have another meaning: "
            f"{', '.join(map(repr, names))}.",
            fix=f"Rename them, also in {spec.dockerfile}.",
        )


def _command(cli: _Cli, endpoint: Endpoint, spec: BuildSpec, id_file: Path) -> list[str]:
    command = [cli.path, *_tls_flags(endpoint), *cli.build, "--progress=plain"]
    command += [f"--iidfile={id_file}", f"--file={spec.dockerfile}", f"--tag={spec.tag}"]
    command += [f"--target={spec.target}"] if spec.target else []
    command += [f"--label={name}={value}" for name, value in spec.labels.items()]
    command += [f"--secret={secret}" for secret in spec.secrets]
    # Without values: every user of this host can read a process's arguments.
    command += [f"--build-arg={name}" for name in spec.args]
    return [*command, "-"]


def _environment(endpoint: Endpoint, spec: BuildSpec, empty: str) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not _REDIRECTING.fullmatch(key)}
    scheme, _, rest = str(endpoint.url).partition("://")
    return {
        **own,
        "DOCKER_HOST": f"{_SCHEMES.get(scheme, scheme)}://{rest}",
        "DOCKER_CERT_PATH": empty,  # otherwise the CLI uses the certificates in ~/.docker
        "DOCKER_BUILDKIT": "1",
        # With an attestation, the result would be an image index instead of an image.
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        **spec.args,
    }


def _tls_flags(endpoint: Endpoint) -> list[str]:
    if not endpoint.uses_tls:
        return []
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    flags = ["--tlsverify" if endpoint.tls_verify else "--tls"]
    # Docker 20.10 requires a CA file, and panics if it is empty.
    flags += [f"--tlscacert={endpoint.tls_ca or DEFAULT_CA_BUNDLE_PATH}"]
    flags += [f"--tlscert={endpoint.tls_cert}"] if endpoint.tls_cert else []
    return [*flags, f"--tlskey={endpoint.tls_private_key}"] if endpoint.tls_private_key else flags


def _fields(secret: str) -> dict[str, str]:
    row = next(csv.reader([secret]), [])
    return {key.lower(): value for key, _, value in (field.partition("=") for field in row)}


def _secret_values(spec: BuildSpec) -> set[str]:
    """Return the lines of all secrets."""
    values: set[str] = set()
    for fields in map(_fields, spec.secrets):
        text = os.environ.get(fields.get("env") or fields.get("id", ""), "")
        if source := fields.get("src") or fields.get("source"):
            with contextlib.suppress(OSError), Path(source).open("rb") as file:
                text = file.read(_MAX_SECRET_BYTES).decode(errors="replace")
        values |= {line.strip() for line in text.splitlines()}
    return values


def _packed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a tar as uncompressed gzip, in pieces of about 64 KiB.

    If this process dies, the docker CLI reads a truncated context. A truncated tar can pass for a
    complete one, a truncated gzip cannot. Some CLIs also do not recognise a tar whose first entry
    has an extended header.
    """
    packer = zlib.compressobj(level=0, wbits=31)
    for piece in pieces:
        for start in range(0, len(piece), _BLOCK_BYTES):
            if packed := packer.compress(piece[start : start + _BLOCK_BYTES]):
                yield packed
    yield packer.flush()
