"""The images of a plan, brought to the daemon."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_torchx.parallel import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_torchx.core.options import PullPolicy
    from airflow_torchx.engine import Engine

_log = logging.getLogger(__name__)


def absent(engine: Engine, images: Iterable[str]) -> frozenset[str]:
    """Return those of the images that are not on the daemon."""
    return frozenset(image for image in images if engine.find_image(image) is None)


def ensure(
    engine: Engine,
    images: Iterable[str],
    policy: PullPolicy,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Pull what the policy asks for, all images at once.

    An image given by its id (``sha256:…``) is never pulled: no registry knows it.

    Raises:
        ImagePullError: the first image that cannot be pulled.
        Stopped: ``should_stop`` returned True.
    """
    wanted = [image for image in dict.fromkeys(images) if not image.startswith("sha256:")]
    if policy == "never":
        return
    if policy == "missing":
        missing = absent(engine, wanted)
        wanted = [image for image in wanted if image in missing]

    def pull(image: str) -> None:
        _log.info("pulling image %s", image)
        engine.pull(image, lambda line: _log.info("pulling image %s: %s", image, line))

    each(pull, wanted, should_stop=should_stop)
