"""What is said about a workspace that is too large."""

from __future__ import annotations

import pytest

from airflow_torchx.core.workspace.tree import Entry, guard, hint
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
    return [line.strip() for line in (text or "").partition(".dockerignore ")[2].splitlines()[1:]]


def test_small_enough() -> None:
    """Exactly as much as is allowed is allowed."""
    assert guard([file("a", 1), file("b", 1)], 2 * MIB) is None


def test_too_large() -> None:
    """Sizes, the largest paths first, and lines that drop them."""
    expected = (
        "the workspace has 1,500.5 MiB, more than the 1,024.0 MiB allowed; its largest:\n"
        "  1,000.0 MiB 'model.pt'\n"
        "  500.0 MiB 'data'\n"
        "  0.5 MiB 'train.py'\n"
        "Name in .dockerignore what the app does not need, or raise max_context_mb:\n"
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
def test_folders_that_are_one_path(files: list[str], expected: list[str]) -> None:
    """Junk, and folders of which nothing in them is a third; at most ten are named."""
    named = [path.strip("'") for path in paths_of(guard([file(path, 1) for path in files], 0))]

    assert expected == named[: len(expected)]
    assert len(named) <= 10


def test_nothing_empty_is_named() -> None:
    """An empty folder or file takes no place."""
    entries = [file("a", 1), file("b", 0), Entry(path="c", kind="dir", mode=0o755)]

    assert ["'a'"] == paths_of(guard(entries, 0))


@pytest.mark.parametrize(
    "path",
    ["a", "#a", "!a", "a*", "a[b]?", "a\\b", " a ", "caf\udce9", "a\nb", "x/node_modules/y", "x/é"],
)
def test_lines_drop_what_they_are_for(path: str) -> None:
    """Whatever the name is made of; and the message can be printed."""
    text = guard([file(path, 1)], 0)
    lines = lines_of(text)

    assert text is not None
    assert text.encode()
    assert 1 == len(lines)
    assert Ignore(lines[0]).drops(path)


def test_hint() -> None:
    """Junk in a large workspace is named with its size, the largest first."""
    expected = (
        "of the workspace's 73.0 MiB are 12.0 MiB in .git, 11.0 MiB in __pycache__."
        " Lines of .dockerignore drop it:\n  **/.git\n  **/__pycache__"
    )
    junk = [file("a/__pycache__/x", 5), file("__pycache__/y", 6), file(".git/a/b", 12)]

    assert expected == hint([*junk, file("data", 50)])


@pytest.mark.parametrize("files", [[file(".git/x", 50)], [file("data", 51)], []])
def test_no_hint(files: list[Entry]) -> None:
    """Neither for little nor for what is no junk."""
    assert hint(files) is None
