"""Why an app failed, as the key of an XCom.

Airflow's API lists the keys of many tasks in one answer, and values one by one. So a list of apps
shows their failures by one request more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What such a key begins with.
FAILURE_PREFIX: Final = "torchx_failure:"
# Airflow sends a key as a part of a path; a comma is between two facts.
_OTHER: Final = re.compile(r"[^\w./-]", re.ASCII)
# A key has 512 characters at most.
_CHARS: Final = 80


def failure_xcoms(snapshot: Mapping[str, Any]) -> dict[str, object]:
    """Return the XCom of a failed app, from its last snapshot; nothing for any other app."""
    failure = snapshot["failure"]
    return {} if failure is None else {failure_key(failure): snapshot["app_id"]}


def failure_key(failure: Mapping[str, Any]) -> str:
    """Return a key like ``torchx_failure:trainer/2,oom,exit=137,signal=SIGKILL,rule=cuda-oom``."""
    worker = failure.get("worker") or {}
    facts = {
        "exit": failure.get("exit"),
        "signal": worker["signal"] if worker else failure.get("signal"),
        "rank": worker.get("rank"),
        "rule": failure.get("rule"),
    }
    name = f"{_text(failure['role'])}/{failure['id']}" if "role" in failure else ""
    known = (f"{fact}={_text(value)}" for fact, value in facts.items() if value is not None)
    return FAILURE_PREFIX + ",".join([name, failure["kind"], *known])


def _text(value: object) -> str:
    return _OTHER.sub("_", str(value))[:_CHARS]
