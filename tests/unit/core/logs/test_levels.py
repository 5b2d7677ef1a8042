"""Tests of the log levels in lines of PyTorch."""

from __future__ import annotations

import logging

import pytest

from airflow_torchx.core.logs.levels import level_of


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("W1129 09:19:38.123000 71 torch/distributed/run.py:852] ******", "WARNING"),
        ("E1129 09:19:38.123000 71 torch/distributed/elastic/a.py:984] failed (exit", "ERROR"),
        ("F0101 00:00:00.000001 1 x.cc:1] gone", "CRITICAL"),
        ("C0101 00:00:00.000001 1 torch/x.py:1] gone", "CRITICAL"),
        ("I0101 00:00:00.000001 1 torch/x.py:1] fine", "INFO"),
        ("V0101 00:00:00.000001 1 torch/x.py:1] [0/0] traced", "INFO"),
        ("[W1129 09:19:38.123456789 socket.cpp:697] [c10d] The client", "WARNING"),
        ("[W420 19:27:52.000000000 socket.cpp:764] [c10d] The client", "WARNING"),
        ("[E socket.cpp:957] [c10d] The client socket", "ERROR"),
        ("[rank0]:[W1206 14:55:38.624395404 ProcessGroupNCCL.cpp:1250] Warning", "WARNING"),
        ("[rank12]:[E ProcessGroupNCCL.cpp:523] [Rank 12] Watchdog caught", "ERROR"),
        ("[rank0]:W1129 09:19:38.123000 71 torch/_dynamo/convert_frame.py:906] [0/8]", "WARNING"),
        ("[trainer-a1]:[rank1]:[E1129 09:19:38.1 ProcessGroupGloo.cpp:145] Gloo", "ERROR"),
        ("[0]:W1129 09:19:38.123000 71 run.py:852] ", "WARNING"),
        ("[2024-03-28 16:00:46,763] torch.distributed.run: [WARNING] ****", "WARNING"),
        ("[2024-03-28 16:00:46,763] torch.distributed.run: [INFO] ****", "INFO"),
        ("[2023-10-12 09:00:00,000] [0/0] torch._dynamo: [WARNING] cache", "WARNING"),
        ("[2023-10-12 09:00:00,000] [3/0_1] torch._inductor.utils: [WARNING] x", "WARNING"),
        ("E20241129 09:19:38.123000 71 ProcessGroupNCCL.cpp:852] Watchdog", "ERROR"),
        ("ERROR:torch.distributed.elastic.multiprocessing.api:failed", "ERROR"),
        ("WARNING:root:no GPU", "WARNING"),
        ("\x1b[33mWARNING:torch.hub:cached\x1b[0m", "WARNING"),
        ("[0]:\x1b[1;31m[rank0]:[E1129 09:19:38.1 ProcessGroupGloo.cpp:145] Gloo", "ERROR"),
        ("\x1b[31mred\x1b[0m", "INFO"),
        ("", "INFO"),
        ("Warning: nothing of PyTorch", "INFO"),
        ("Epoch 1 09:19:38.1 x.py:1]", "INFO"),
        ("E1 is a column", "INFO"),
        ("[W] x.py:1]", "INFO"),
        ("ERROR: the program's own", "INFO"),
        ("a W1129 09:19:38.123000 71 torch/distributed/run.py:852] b", "INFO"),
    ],
)
def test_levels(text: str, level: str) -> None:
    """A line has the level that PyTorch put in front of it, in any of its versions."""
    assert level == logging.getLevelName(level_of(text))


@pytest.mark.parametrize(
    "text",
    ["[", "[]:", "[W ", "W1129 ", "[W1129 1 ", "[rank0]:W1129 :1", "\x1b[", "\x1b[3", "\x1b[1m"],
)
def test_a_long_line_is_searched_fast(text: str) -> None:
    """A line of a megabyte is searched in linear time."""
    assert logging.INFO == level_of(text * (1_000_000 // len(text)))
