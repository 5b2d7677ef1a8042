"""The environment in which TorchX's tracker API finds its trackers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TRACKERS: Final = "TORCHX_TRACKERS"


def tracker_variable(name: str) -> str:
    """Return the environment variable that holds the configuration of a tracker."""
    return f"TORCHX_TRACKER_{name.upper()}_CONFIG"


def tracker_env(trackers: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which TorchX's tracker API finds these trackers."""
    configs = {tracker_variable(name): config for name, config in trackers.items() if config}
    return {TRACKERS: ",".join(trackers), **configs} if trackers else {}
