"""Building an image with the classic builder, which every Engine has."""

from __future__ import annotations

import json
from contextlib import closing, contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_torchx.core.plan.redact import proxy_secrets, redact
from airflow_torchx.core.workspace.build_report import (
    CLASSIC_NOISE,
    ClassicLog,
    Failure,
    TextLines,
    explain,
)
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.docker_engine.request import upload
from airflow_torchx.docker_engine.transfer import read_events
from airflow_torchx.errors import EngineError, EngineUnreachableError, ImageBuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from airflow_torchx.core.engine.images import BuildSpec
    from airflow_torchx.docker_engine.request import Client


def build(
    client: Client,
    url: str,
    spec: BuildSpec,
    context: Iterable[bytes],
    on_line: Callable[[str], None],
    proxy_env: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Build a Dockerfile as `Images.build` describes, and return the id of the image.

    The daemon pulls a missing base image without a login. An error that ``context`` or ``on_line``
    raises is raised unchanged and cancels the build. ``proxy_env`` has further build arguments,
    which leave no trace in the image; their passwords are masked in the output.

    Raises:
        ImageBuildError: a step failed, or the daemon rejected the build.
        EngineUnreachableError: the connection was lost before the build ended.
    """
    log, lines, image_id = ClassicLog(), TextLines(), ""
    spec, secrets = replace(spec, args={**proxy_env, **spec.args}), proxy_secrets(proxy_env)

    def report(new_lines: Iterable[str]) -> None:
        for line in (redact(line, secrets) for line in new_lines):
            log.add(line)
            on_line(line)

    with closing(_events(client, url, spec, context)) as events:
        for event in events:
            if "error" in event or "errorDetail" in event:
                report(lines.flush())
                raise _failed(spec, log, event, secrets)
            text = _text(event)
            if not event:
                on_line("")
            if text.startswith(CLASSIC_NOISE):  # the last line may lack its newline
                report(lines.flush())
            report(lines.feed(text))
            image_id = (event.get("aux") or {}).get("ID") or image_id
    report(lines.flush())
    if not image_id:
        raise ImageBuildError(
            f"cannot build image {spec.tag!r}: the response ended before the image was complete.",
            fix="Check whether the daemon was restarted (`docker version`), then try again.",
        )
    with engine_errors(f"inspect the built image {spec.tag!r}", url):
        return str(client.inspect_image(image_id)["Id"])


def _events(
    client: Client, url: str, spec: BuildSpec, context: Iterable[bytes]
) -> Generator[Mapping[str, Any]]:
    what = f"build image {spec.tag!r}"
    response = upload(
        client,
        "POST",
        "/build",
        context,
        errors=_request_errors(spec, what, url),
        params=_params(spec),
        stream=True,
        timeout=(client.timeout, None),  # a build step may print nothing for hours
    )
    yield from read_events(response, what, url)


@contextmanager
def _request_errors(spec: BuildSpec, what: str, url: str) -> Iterator[None]:
    # "from None": the cause quotes the URL, which contains the build arguments.
    try:
        with engine_errors(what, url):
            yield
    except EngineUnreachableError as error:
        raise error from None
    except EngineError as error:
        text, fix = explain(spec, Failure(reason=error.what.removeprefix(f"cannot {what}: ")))
        raise ImageBuildError(text, fix=fix, status=error.status) from None


def _params(spec: BuildSpec) -> dict[str, str]:
    return {
        "t": spec.tag,
        "dockerfile": spec.dockerfile,
        "buildargs": json.dumps(dict(spec.args)),
        "labels": json.dumps(dict(spec.labels)),
        "target": spec.target or "",
        "pull": "0",
        "rm": "1",
        "forcerm": "1",
        "version": "1",
    }


def _text(event: Mapping[str, Any]) -> str:
    """Return the output of an event, without the progress of pulls."""
    status = event.get("status")
    if not status or event.get("progressDetail"):
        return str(event.get("stream") or "")
    layer = f"{event['id']}: " if event.get("id") else ""
    return f"{layer}{status}\n"


def _failed(
    spec: BuildSpec, log: ClassicLog, event: Mapping[str, Any], secrets: Iterable[str]
) -> ImageBuildError:
    detail = event.get("errorDetail") or {}
    reason = redact(str(detail.get("message") or event.get("error") or ""), secrets)
    what, fix = explain(spec, log.failure(reason, detail.get("code")))
    return ImageBuildError(what, fix=fix)
