"""Tests how TorchX reads a ``.dockerignore``; the expected values were recorded from TorchX."""

from __future__ import annotations

import pytest

from airflow_torchx.core.workspace.torchx_rules import difference, torchx_rules

PATHS = (
    "a.log",
    "b/a.log",
    "b/c/a.log",
    "b/x.py",
    "b/c/x.py",
    "data/x",
    "foo",
    "Dockerfile.torchx",
)


@pytest.mark.parametrize(
    ("rules", "ignored"),
    [
        ("", ""),
        ("*.log", "a.log b/a.log b/c/a.log"),
        ("b", "b/a.log b/c/a.log b/x.py b/c/x.py"),
        ("b/", ""),
        ("/data\n./foo", ""),
        ("**/*.log", "b/a.log b/c/a.log"),
        ("*\n!b", "a.log data/x foo"),
        ("*.log\n!b/*.log", "a.log"),
        ("!*.log\n*.log", "a.log b/a.log b/c/a.log"),
        ("b/c # and more\n#data\n.\n\n", "b/c/a.log b/c/x.py"),
        ("foo#bar", "foo"),
        ("Dockerfile*", ""),
    ],
)
def test_torchx_rules(rules: str, ignored: str) -> None:
    """A wildcard matches slashes, an ignored folder is not entered, and '#' cuts a line."""
    ignores = torchx_rules(rules.encode())

    assert set(ignored.split()) == {path for path in PATHS if ignores(path)}


def test_a_warning_of_both_directions() -> None:
    """The warning names what TorchX leaves out and what it sends, if there is anything."""
    assert difference([], []) is None
    assert str(difference(["a"], [])).endswith("so it leaves out a")
    assert str(difference([], ["b"])).endswith("so it sends b")
    assert str(difference(["a", "c"], ["b"])).endswith("so it leaves out a, c, and sends b")
