"""Image names, as Docker understands them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from airflow_torchx.errors import ImagePullError

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHORT_ID: Final = 12


class FakeImages:
    """The images of a daemon, and those that a registry has. Not safe to use without a lock."""

    def __init__(self, local: Iterable[str], pullable: Iterable[str]) -> None:
        self._ids = {full_name(ref): image_id(ref) for ref in local}
        self._pullable = {full_name(ref) for ref in pullable}

    def find(self, ref: str) -> str | None:
        """Return the id of a local image by name, id, or short id."""
        found = self._ids.get(full_name(ref))
        if found is not None:
            return found
        digits = ref.removeprefix("sha256:")
        return next(
            (
                id_
                for id_ in self._ids.values()
                if len(digits) >= _SHORT_ID and id_.startswith(f"sha256:{digits}")
            ),
            None,
        )

    def pull(self, ref: str) -> None:
        """Make an image local.

        Raises:
            ImagePullError: no registry has it.
        """
        name = full_name(ref)
        if name not in self._pullable:
            what = f"cannot pull image {ref}: manifest for {name} not found."
            raise ImagePullError(what, fix="Name it in FakeEngine(pullable=...).", status=404)
        self._ids[name] = image_id(ref)


def full_name(ref: str) -> str:
    """Return an image's name with its tag and without the default registry."""
    name = ref.removeprefix("docker.io/").removeprefix("library/")
    tagged = "@" in name or ":" in name.rpartition("/")[2]
    return name if tagged else f"{name}:latest"


def image_id(ref: str) -> str:
    """Return the id that the fake daemon gives to an image."""
    return f"sha256:{hashlib.sha256(full_name(ref).encode()).hexdigest()}"
