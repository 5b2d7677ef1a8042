"""Runs in an environment of TorchX alone: makes apps of command lines, with TorchX's own parser.

Reads a JSON list of command lines, each a list of words, and writes for each what became of it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import sys
import warnings
from enum import Enum
from typing import Any

import torchx
from torchx.cli.cmd_run import _parse_component_name_and_args
from torchx.specs import materialize_appdef
from torchx.specs.finder import get_component

_MOUNTS = {"BindMount": "bind", "VolumeMount": "volume", "DeviceMount": "device"}


def plain(value: Any) -> Any:  # noqa: ANN401 - any part of an app
    """Return an app as JSON, each mount with its type; the default image is None."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        kind = _MOUNTS.get(type(value).__name__)
        return fields | ({"type": kind} if kind else {})
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if value == torchx.IMAGE else value


def app_of(name: str, words: list[str]) -> dict[str, Any]:
    """Return the app of a command line, or why there is none."""
    try:
        component = get_component(name)
        return {"app": plain(materialize_appdef(component.fn, words))}
    except (Exception, SystemExit) as why:  # noqa: BLE001 - whatever TorchX raises counts as no
        return {"error": repr(why)}


def accepted_by_command_line(line: list[str]) -> bool:
    """Tell whether `torchx run` gets as far as to look for the component."""
    try:
        return bool(_parse_component_name_and_args(line, argparse.ArgumentParser(), dirs=[]))
    except SystemExit:
        return False


def main() -> None:
    """Answer all command lines at once: starting TorchX takes a second."""
    warnings.simplefilter("ignore")
    answers = []
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        for line in json.load(sys.stdin):
            accepted = accepted_by_command_line(line)
            answers.append({**app_of(line[0], line[1:]), "accepted": accepted})
    print(json.dumps(answers))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
