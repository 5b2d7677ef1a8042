"""One build with the classic builder of the Engine, which every Engine has."""

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
from airflow_torchx.docker_engine.errors import asking
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
    """Build a Dockerfile and return the id of the image; no container of it is left.

    A base image that the daemon does not have is pulled by it, without a login.

    Args:
        client: a `docker.APIClient`.
        url: the daemon.
        spec: what to build.
        context: an uncompressed tar in pieces of any size, with the Dockerfile in it; what it
            raises comes out as it is, and the daemon gives up.
        on_line: called with every line that the build prints, and with an empty one several times a
            second while it prints none; if it raises, the daemon gives up.

    Raises:
        ImageBuildError: a step failed, and which; or the daemon did not begin.
        EngineUnreachableError: the connection broke before the daemon ended the build.
    """
    log, lines, image_id = ClassicLog(), TextLines(), ""

    def tell(told: Iterable[str]) -> None:
        for line in told:
            log.add(line)
            on_line(line)

    with closing(_events(client, url, spec, context)) as events:
        for event in events:
            if "error" in event or "errorDetail" in event:
                tell(lines.flush())
                raise _failed(spec, log, event)
            text = _text(event)
            if not event:
                on_line("")
            if text.startswith(CLASSIC_NOISE):  # also where a command has not ended its line
                tell(lines.flush())
            tell(lines.feed(text))
            image_id = (event.get("aux") or {}).get("ID") or image_id
    tell(lines.flush())
    if not image_id:
        raise ImageBuildError(
            f"cannot build image {spec.tag!r}: the daemon ended before the image was complete.",
            fix="Check whether the daemon was restarted (`docker version`), then try again.",
        )
    with asking(f"find the image {spec.tag!r} that was built", url):
        return str(client.inspect_image(image_id)["Id"])


def _events(
    client: Any,  # noqa: ANN401 - see build
    url: str,
    spec: BuildSpec,
    context: Iterable[bytes],
) -> Generator[Mapping[str, Any]]:
    what, raised = f"build image {spec.tag!r}", list[Exception]()
    try:
        with asking(what, url):
            response = upload(
                client,
                "POST",
                "/build",
                _remember(context, raised),
                params=_params(spec),
                stream=True,
                timeout=(client.timeout, None),  # between two lines any time may pass
            )
            response.raise_for_status()
    except EngineError as error:
        # Without their causes: those quote the URL, and the build arguments with it.
        if raised:
            raise raised[0] from None
        if isinstance(error, EngineUnreachableError):
            raise error from None
        words = error.what.removeprefix(f"cannot {what}: ")
        said, fix = explain(spec, Failure(reason=words))
        raise ImageBuildError(said, fix=fix, status=error.status) from None
    yield from read_events(response, what, url)


def _remember(pieces: Iterable[bytes], raised: list[Exception]) -> Generator[bytes]:
    """Yield the pieces, and keep what they raise apart from what the connection raises."""
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
    """Return what an event adds to the output; numbers on the way of a pull are left out."""
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
