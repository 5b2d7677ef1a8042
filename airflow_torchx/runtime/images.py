"""Pull the images of a plan."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.engine.images import WORKSPACE_REPOSITORY
from airflow_torchx.errors import ImagePullError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.options import PullPolicy

_log = logging.getLogger(__name__)


def absent(engine: Engine, images: Iterable[str]) -> frozenset[str]:
    """Return the images that are not on the daemon."""
    return frozenset(image for image in images if engine.find_image(image) is None)


def ensure(
    engine: Engine,
    images: Iterable[str],
    policy: PullPolicy,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Pull images as the policy says, all at once.

    Images that no registry has are never pulled: one given by its id (``sha256:…``), and a local
    workspace image.

    Raises:
        ImagePullError: an image cannot be pulled; with ``if_possible``, only if it is not on the
            daemon either.
        StopRequested: ``should_stop`` returned True.
    """
    wanted = [image for image in dict.fromkeys(images) if not _is_local(image)]
    if policy == "never":
        return
    if policy == "missing":
        missing = absent(engine, wanted)
        wanted = [image for image in wanted if image in missing]

    def pull(image: str) -> None:
        _log.info("pulling image %s", image)
        try:
            engine.pull(image, lambda line: _log.info("pulling image %s: %s", image, line))
        except ImagePullError as error:
            if policy != "if_possible" or engine.find_image(image) is None:
                raise
            _log.warning("using image %s as it is on the daemon: %s", image, error.what)

    map_concurrently(pull, wanted, should_stop=should_stop)


def _is_local(image: str) -> bool:
    return image.startswith(("sha256:", f"{WORKSPACE_REPOSITORY}:", f"{WORKSPACE_REPOSITORY}@"))
