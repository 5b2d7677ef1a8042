"""Tests of messages about large workspaces."""

from __future__ import annotations

import pytest

from airflow_torchx.core.workspace.tree import Entry, guard, hint, left_out_line
from airflow_torchx.workspace.dockerignore import Ignore

MIB = 1 << 20


def file(path: str, mib: float) -> Entry:
    """Return a file of this size in MiB."""
    return Entry(path=path, kind="file", mode=0o644, size_bytes=int(mib * MIB))


def paths_of(text: str | None) -> list[str]:
    """Return the paths that are listed with their sizes."""
    return [line.split(" MiB ")[1] for line in (text or "").splitlines()[1:] if " MiB " in line]


def lines_of(text: str | None) -> list[str]:
    """Return the lines for ``.dockerignore``."""
    return [line.strip() for line in (text or "").partition(".dockerignore")[2].splitlines()[1:]]


def test_a_workspace_of_the_maximum_size() -> None:
    """A workspace may have exactly the maximum size."""
    assert guard([file("a", 1), file("b", 1)], 2 * MIB) is None


def test_a_workspace_that_is_too_large() -> None:
    """The error lists the largest paths with their sizes, and lines to exclude them."""
    expected = (
        "the workspace has 1,500.5 MiB; the limit is 1,024.0 MiB. Its largest paths:\n"
        "  1,000.0 MiB 'model.pt'\n"
        "  500.0 MiB 'data'\n"
        "  0.5 MiB 'train.py'\n"
        "Add what the app does not need to .dockerignore, or raise max_context_mb:\n"
        "  /model.pt\n"
        "  /data\n"
        "  /train.py"
    )
    data = [file(f"data/{n}", 5) for n in range(100)]

    assert expected == guard([file("train.py", 0.5), *data, file("model.pt", 1000)], 1024 * MIB)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([f"a/b/{n}" for n in range(9)], ["a/b"]),
        (["a/x", "a/y", "b/x"], ["a/x", "a/y", "b/x"]),
        ([f"{n}/x" for n in range(20)], [f"{n}/x" for n in sorted(map(str, range(20)))][:10]),
        (["a/.git/x", *(f"a/{n}" for n in range(9))], ["a/.git", "a/0"]),
        (["a/__pycache__/x/__pycache__/y"], ["a/__pycache__"]),
        ([".venv/lib/big"], [".venv"]),
        (["venv"], ["venv"]),
    ],
)
def test_folders_that_are_listed_as_one_path(files: list[str], expected: list[str]) -> None:
    """At most ten paths are listed; junk and folders of many small files count as one."""
    named = [path.strip("'") for path in paths_of(guard([file(path, 1) for path in files], 0))]

    assert expected == named[: len(expected)]
    assert len(named) <= 10


def test_empty_paths_are_not_listed() -> None:
    """Empty files and folders are not listed."""
    entries = [file("a", 1), file("b", 0), Entry(path="c", kind="dir", mode=0o755)]

    assert ["'a'"] == paths_of(guard(entries, 0))


@pytest.mark.parametrize(
    "path",
    ["a", "#a", "!a", "a*", "a[b]?", "a\\b", " a ", "caf\udce9", "a\nb", "x/node_modules/y", "x/é"],
)
def test_dockerignore_lines_match_their_paths(path: str) -> None:
    """The .dockerignore line of a path matches it, whatever its name, and can be printed."""
    text = guard([file(path, 1)], 0)
    lines = lines_of(text)

    assert text is not None
    assert text.encode()
    assert 1 == len(lines)
    assert Ignore(lines[0]).ignores(path)


def test_a_hint_about_junk() -> None:
    """The hint lists junk in a large workspace, the largest first."""
    expected = (
        "the workspace has 73.0 MiB: 12.0 MiB in .git, 11.0 MiB in __pycache__. "
        "Exclude them in .dockerignore:\n  **/.git\n  **/__pycache__"
    )
    junk = [file("a/__pycache__/x", 5), file("__pycache__/y", 6), file(".git/a/b", 12)]

    assert expected == hint([*junk, file("data", 50)])


@pytest.mark.parametrize("files", [[file(".git/x", 50)], [file("data", 51)], []])
def test_workspaces_without_a_hint(files: list[Entry]) -> None:
    """A small workspace and one without junk get no hint."""
    assert hint(files) is None


def test_a_line_of_limited_length() -> None:
    """At most ten names are listed; names that cannot be printed are escaped."""
    paths = ["a\nb", "caf\udce9", *(f"{number}.key" for number in range(12))]

    line = left_out_line(paths)

    assert r": 'a\nb', 'caf\udce9', 0.key, 1.key, " in line
    assert " and 4 more;" in line
    assert line.encode()
    assert "\n" not in line
