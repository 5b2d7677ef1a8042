"""Building an image with the classic builder, which every Engine has."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow_torchx.core.workspace.build_report import (
    CLASSIC_NOISE,
    ClassicLog,
    Failure,
    TextLines,
    explain,
)
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.docker_engine.transfer import read_events
from airflow_torchx.docker_engine.upload import upload
from airflow_torchx.errors import EngineError, EngineUnreachableError, ImageBuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from airflow_torchx.core.engine.images import BuildSpec


def build(
    client: Any,  # noqa: ANN401 - Docker's SDK has no types
    url: str,
    spec: BuildSpec,
    context: Iterable[bytes],
    on_line: Callable[[str], None],
) -> str:
    """Build a Dockerfile and return the id of the image; intermediate containers are removed.

    The daemon pulls a missing base image without a login.

    Args:
        client: a `docker.APIClient`.
        url: the daemon.
        spec: what to build.
        context: an uncompressed tar in pieces of any size, including the Dockerfile. An error that
            it raises is raised unchanged and cancels the build.
        on_line: called with each line of output, and with "" several times a second while there is
            none. An error that it raises cancels the build.

    Raises:
        ImageBuildError: a step failed, or the daemon rejected the build.
        EngineUnreachableError: the connection was lost before the build ended.
    """
    log, lines, image_id = ClassicLog(), TextLines(), ""

    def report(new_lines: Iterable[str]) -> None:
        for line in new_lines:
            log.add(line)
            on_line(line)

    with closing(_events(client, url, spec, context)) as events:
        for event in events:
            if "error" in event or "errorDetail" in event:
                report(lines.flush())
                raise _failed(spec, log, event)
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
    client: Any,  # noqa: ANN401 - see build
    url: str,
    spec: BuildSpec,
    context: Iterable[bytes],
) -> Generator[Mapping[str, Any]]:
    what, raised = f"build image {spec.tag!r}", list[Exception]()
    try:
        with engine_errors(what, url):
            response = upload(
                client,
                "POST",
                "/build",
                _recording(context, raised),
                params=_params(spec),
                stream=True,
                timeout=(client.timeout, None),  # a build step may print nothing for hours
            )
            response.raise_for_status()
    except EngineError as error:
        # "from None": the cause quotes the URL, which contains the build arguments.
        if raised:
            raise raised[0] from None
        if isinstance(error, EngineUnreachableError):
            raise error from None
        reason = error.what.removeprefix(f"cannot {what}: ")
        text, fix = explain(spec, Failure(reason=reason))
        raise ImageBuildError(text, fix=fix, status=error.status) from None
    yield from read_events(response, what, url)


def _recording(pieces: Iterable[bytes], raised: list[Exception]) -> Generator[bytes]:
    """Yield the pieces; record their error, to tell it from an error of the connection."""
    try:
        yield from pieces
    except Exception as error:
        raised.append(error)
        raise


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


def _failed(spec: BuildSpec, log: ClassicLog, event: Mapping[str, Any]) -> ImageBuildError:
    detail = event.get("errorDetail") or {}
    reason = str(detail.get("message") or event.get("error") or "")
    what, fix = explain(spec, log.failure(reason, detail.get("code")))
    return ImageBuildError(what, fix=fix)
