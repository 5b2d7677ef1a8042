"""What the example of a resumable training has done, also if its processes were killed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.plan.progress import PROGRESS_PATH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_torchx.docker_engine import DockerEngine

_MAX_BYTES: Final = 1_000_000


def last_step(engine: DockerEngine, container_ids: Iterable[str]) -> int:
    """Return the last step of any container, from the files that its processes write themselves.

    torchrun copies the lines of its workers each 0.1 s: a log that ends with a kill can lack the
    last ones.
    """
    files = (engine.read_file(one, PROGRESS_PATH, _MAX_BYTES) for one in container_ids)
    return max(int(json.loads(file.splitlines()[-1])["step"]) for file in files)
