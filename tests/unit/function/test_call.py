"""Tests how a function's arguments are passed to a container."""

from __future__ import annotations

import json
import math
from collections import OrderedDict, deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_torchx.errors import FunctionError
from airflow_torchx.function.call import CALL_ENV, MAX_CALL_CHARS, Call
from airflow_torchx.function.source import FunctionSource
from airflow_torchx.specs import Role, macros

SOURCE = FunctionSource(name="train", text="", file="/dags/x.py", line=7, lazy_annotations=True)
VALUES = macros.Values(img_root="", app_id="a", replica_id="0", rank0_env="R")


def train(first: Any, *rest: Any, lr: Any = 0.1, **more: Any) -> None:  # noqa: ANN401 - any JSON
    """Take all kinds of arguments."""


def arrived(call: Call) -> dict[str, Any]:
    """Return the call as a container reads it, after macro substitution."""
    env = call.env(SOURCE, file="x.py", result_path="/r.json")
    substituted = VALUES.apply(Role("train", "", env=env)).env
    assert all(len(value) + len(name) + 2 <= 128 << 10 for name, value in substituted.items())
    assert [f"{CALL_ENV}{number}" for number in range(len(substituted))] == list(substituted)
    received: dict[str, Any] = json.loads("".join(substituted.values()))
    return received


def test_a_call_arrives_unchanged() -> None:
    """Macros, dollars, line breaks and any Unicode text arrive unchanged."""
    text = "$$ ${app_id} {{ x }} \n \0 ü \ud800"
    call = Call.of(train, [text, 1, None], {"lr": 1e-9, "on": True, "deep": {text: [text]}})

    assert {
        "function": "train",
        "file": "x.py",
        "line": 7,
        "lazy_annotations": True,
        "result_path": "/r.json",
        "args": [text, 1, None],
        "kwargs": {"lr": 1e-9, "on": True, "deep": {text: [text]}},
    } == arrived(call)


def test_sequences_are_lists_and_mappings_dicts() -> None:
    """Any sequence becomes a list and any mapping a dict, like the XComs of mapped tasks."""
    call = Call.of(train, [(1, 2)], {"lr": range(2), "x": OrderedDict(a=deque([1]))})

    assert ([1, 2],) == call.args
    assert {"lr": [0, 1], "x": {"a": [1]}} == call.kwargs


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ([datetime.now(UTC)], {}, r"argument first of train\(\) is a datetime.datetime"),
        ([1, b"x"], {}, r"argument rest\[0\] of train\(\) is a builtins.bytes"),
        ([1], {"lr": {"a": [0, math.nan]}}, r"argument lr\['a'\]\[1\] of train\(\) is nan"),
        ([1], {"lr": {1: 2}}, r"argument lr of train\(\) is a mapping with the key 1, not JSON"),
        ([1], {"at": Path()}, r"argument more\['at'\] of train\(\) is a pathlib"),
    ],
)
def test_argument_that_is_not_json(args: list[Any], kwargs: dict[str, Any], message: str) -> None:
    """The error shows the argument, the path inside it, and the type."""
    with pytest.raises(FunctionError, match=message):
        Call.of(train, args, kwargs)


def test_missing_argument() -> None:
    """A missing argument raises Python's own TypeError."""
    with pytest.raises(TypeError, match="missing a required argument: 'first'"):
        Call.of(train, [], {})


def test_large_arguments_arrive() -> None:
    """Arguments above Linux's 128 KiB per variable are split over several variables."""
    large = "x" * (MAX_CALL_CHARS - 1000)

    assert [large] == arrived(Call.of(train, [large], {}))["args"]


def test_arguments_that_are_too_large() -> None:
    """The error of too large arguments shows the largest one."""
    call = Call.of(train, ["x"], {"lr": 1, "table": ["x" * 700] * 2000})

    with pytest.raises(FunctionError, match=r"are 1375 KiB as JSON, .* largest is more, 1375 KiB"):
        call.env(SOURCE, file="x.py", result_path=None)
