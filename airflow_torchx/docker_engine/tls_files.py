"""Temporary files for certificates and keys that a connection holds as text."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_torchx.core.connection.endpoint import TLS_FIELDS
from airflow_torchx.core.connection.pem import Pem
from airflow_torchx.errors import EngineUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.core.connection.endpoint import Endpoint


@contextlib.contextmanager
def on_disk(endpoint: Endpoint) -> Iterator[Endpoint]:
    """Write an endpoint's TLS material to files and delete them on exit.

    Docker's SDK reads them for each new connection, and the docker CLI needs them too. Only this
    user can read them. A process that is killed with SIGKILL leaves them behind.

    Raises:
        EngineUnreachableError: the files cannot be written.
    """
    texts = {
        name: value.text for name in TLS_FIELDS if isinstance(value := getattr(endpoint, name), Pem)
    }
    if not texts:
        yield endpoint
        return
    with contextlib.ExitStack() as files:
        try:
            folder = files.enter_context(tempfile.TemporaryDirectory(prefix="airflow-torchx-tls-"))
            paths: dict[str, Any] = {
                name: _written(Path(folder, f"{name}.pem"), texts[name]) for name in texts
            }
        except OSError as error:
            raise EngineUnreachableError(
                f"no Docker daemon at {endpoint.url}: its TLS files cannot be written: "
                f"{error.strerror}.",
                fix=f"Free space in {tempfile.gettempdir()}, or use paths instead of PEM text.",
            ) from error
        yield replace(endpoint, **paths)


def _written(path: Path, text: str) -> str:
    path.touch(mode=0o600)
    path.write_text(text)
    return str(path)
