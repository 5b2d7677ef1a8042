"""What the events of a task's assets say of its app."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Key in the extra of an event, beside those of a user.
EXTRA_KEY: Final = "torchx"
#: An event is shown in lists, and read with each run that it starts.
MAX_EXTRA_BYTES: Final = 16_384


def outlet_extra(
    pushed: Mapping[str, Any], result: object, mask: Callable[[str], str]
) -> dict[str, Any]:
    """Return handle, images, result, and last metrics of an app that succeeded.

    Args:
        pushed: the XComs of the task, by key.
        result: any JSON; None without one. A result that makes it larger than `MAX_EXTRA_BYTES` is
            left out.
        mask: masks secrets in a text.
    """
    progress = pushed.get("progress") or {}
    extra = {
        "app_handle": pushed.get("app_handle"),
        "image_ids": pushed.get("image_ids"),
        "step": progress.get("step"),
        "metrics": progress.get("metrics"),
        "result": _masked(result, mask),
    }
    known = {name: value for name, value in extra.items() if value not in (None, {})}
    if len(json.dumps(known)) > MAX_EXTRA_BYTES:
        known.pop("result", None)
    return known


def _masked(value: Any, mask: Callable[[str], str]) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [_masked(one, mask) for one in value]
    if isinstance(value, dict):
        return {mask(str(name)): _masked(one, mask) for name, one in value.items()}
    return value
