"""Pull the images of a plan."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.engine.images import WORKSPACE_REPOSITORY
from airflow_torchx.errors import ImagePullError
from airflow_torchx.runtime.phases import phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_torchx.core.engine.protocol import Engine, Images
    from airflow_torchx.core.plan.option_kinds import PullPolicy

_log = logging.getLogger(__name__)

_LOCAL: Final = ("sha256:", f"{WORKSPACE_REPOSITORY}:", f"{WORKSPACE_REPOSITORY}@")
#: Look for every image.
NOTHING_KNOWN: Final[Mapping[str, bool]] = MappingProxyType({})


def ensure(
    engine: Engine,
    images: Iterable[str],
    policy: PullPolicy,
    *,
    known: Mapping[str, bool] = NOTHING_KNOWN,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Pull images as the policy says, all at once.

    Images that no registry has are never pulled: one given by its id (``sha256:…``), and a local
    workspace image. ``known`` says whether the daemon has an image; it is asked for all others.
    ``should_stop`` is called several times a second.

    Raises:
        ImagePullError: an image cannot be pulled; with ``if_possible``, only if it is not on the
            daemon either.
        StopRequested: ``should_stop`` returned True.
    """
    wanted = [image for image in dict.fromkeys(images) if not image.startswith(_LOCAL)]
    if policy == "never":
        return
    if policy == "missing":
        wanted = [
            image
            for image in wanted
            if not (known[image] if image in known else engine.find_image(image))
        ]

    def pull(image: str) -> None:
        _pull(image, policy, engine.pull, lambda: engine.find_image(image) is not None)

    map_concurrently(pull, wanted, should_stop=should_stop)


def ensure_base(
    images: Images,
    base: str,
    policy: PullPolicy,
    *,
    is_there: bool,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Pull the base of a workspace image to the daemon that builds, as the policy says.

    ``is_there`` says whether that daemon has it. See `ensure`, also for what it raises.
    """
    if policy == "never" or (policy == "missing" and is_there) or base.startswith(_LOCAL):
        return

    def pull(image: str) -> None:
        _pull(image, policy, images.pull, lambda: images.inspect(image) is not None)

    map_concurrently(pull, [base], should_stop=should_stop)


def _pull(
    image: str,
    policy: PullPolicy,
    pull: Callable[[str, Callable[[str], None]], None],
    is_there: Callable[[], bool],
) -> None:
    _log.info("pulling image %s", image)
    try:
        with phase("pull", image=image):
            pull(image, lambda line: _log.info("pulling image %s: %s", image, line))
    except ImagePullError as error:
        if policy != "if_possible" or not is_there():
            raise
        _log.warning("using image %s as it is on the daemon: %s", image, error.what)
