"""Listing, merging and hashing the files of a workspace."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.errors import WorkspaceError
from airflow_torchx.workspace.tree import Project, Tree, hash_tree, list_tree, read_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Path to content of a file, or None for a folder.
Files = dict[str, str | None]


def make(root: Path, files: Mapping[str, str | None]) -> Path:
    """Create files and folders, and return the root."""
    root.mkdir(exist_ok=True)
    for path, content in files.items():
        if content is None:
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content)
    return root


def read(*projects: Project) -> Tree:
    """Read a workspace with these parts."""
    return read_tree(projects, should_stop=lambda: False)


def paths(tree: Tree) -> list[str]:
    """Return the paths, those of folders with a trailing slash."""
    return [entry.path + "/" * (entry.kind == "dir") for entry in tree.entries]


def contents(tree: Tree) -> Files:
    """Return the contents of the entries on this host."""
    return {
        entry.path: Path(entry.source).read_text() if entry.kind == "file" else None
        for entry in tree.entries
    }


def test_entries(tmp_path: Path) -> None:
    """Entries are sorted by path and have kind, mode, size, digest and source."""
    make(tmp_path, {"b.py": "hello", "a/run": "", "a/empty": None})
    (tmp_path / "a/run").chmod(0o755)
    (tmp_path / "b.py").chmod(0o640)
    (tmp_path / "a").chmod(0o2750)
    (tmp_path / "link").symlink_to("/etc")

    entries = read(Project(tmp_path)).entries

    assert [
        ("a", "dir", 0o2750, 0, ""),
        ("a/empty", "dir", 0o755, 0, ""),
        ("a/run", "file", 0o755, 0, hashlib.sha256(b"").hexdigest()),
        ("b.py", "file", 0o640, 5, hashlib.sha256(b"hello").hexdigest()),
        ("link", "link", 0o777, 0, hashlib.sha256(b"/etc").hexdigest()),
    ] == [(e.path, e.kind, e.mode, e.size_bytes, e.digest) for e in entries]
    assert str(tmp_path / "b.py") == entries[3].source
    assert "/etc" == entries[4].link


def test_many_and_large_files_are_hashed(tmp_path: Path) -> None:
    """Each file gets its own digest, regardless of the grouping into threads."""
    for number in range(300):
        (tmp_path / f"{number:03}").write_bytes(b"%d" % number)
    for size in (0, 1, 256 << 10, (256 << 10) + 1, 9 << 20):
        (tmp_path / f"of {size}").write_bytes(os.urandom(size))

    entries = read(Project(tmp_path)).entries

    assert [hashlib.sha256((tmp_path / e.path).read_bytes()).hexdigest() for e in entries] == [
        e.digest for e in entries
    ]


@pytest.mark.parametrize("name", [".dockerignore", "Dockerfile.torchx"])
def test_huge_control_files(tmp_path: Path, name: str) -> None:
    """A huge .dockerignore or Dockerfile raises an error before it fills the memory."""
    with (tmp_path / name).open("wb") as file:
        file.truncate((16 << 20) + 1)

    with pytest.raises(WorkspaceError, match=f"{name}' in the workspace is larger than 16 MiB"):
        list_tree([Project(tmp_path)])


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Links out of the workspace, in circles, or to nothing are not followed."""
    make(tmp_path / "outside", {"secret": "x"})
    root = make(tmp_path / "root", {})
    for name, target in {"out": "../outside", "self": ".", "none": "nowhere"}.items():
        (root / name).symlink_to(target)

    assert [("none", "nowhere"), ("out", "../outside"), ("self", ".")] == [
        (e.path, e.link) for e in read(Project(root)).entries
    ]


def test_root_is_a_link(tmp_path: Path) -> None:
    """A symbolic link as a root stands for its target."""
    make(tmp_path / "real", {"f": "x"})
    (tmp_path / "link").symlink_to("real")

    assert {"f": "x"} == contents(read(Project(tmp_path / "link")))


def test_names_of_any_bytes(tmp_path: Path) -> None:
    """Names of any bytes are decoded with `os.fsdecode`."""
    with open(os.fsencode(tmp_path) + b"/\xff\n\xc3\xbc", "wb"):  # noqa: PTH123 - no text
        pass

    assert [b"\xff\n\xc3\xbc"] == [os.fsencode(e.path) for e in read(Project(tmp_path)).entries]


def test_deep_folders(tmp_path: Path) -> None:
    """Folders can be as deep as the path limit allows."""
    depth = (4000 - len(str(tmp_path))) // 2
    deepest = "/".join("d" * depth)
    subprocess.run(["mkdir", "-p", deepest], check=True, cwd=tmp_path)

    entries = read(Project(tmp_path)).entries

    # pytest deletes the folder with one recursion per level.
    subprocess.run(["rm", "-rf", "d"], check=True, cwd=tmp_path)
    assert (depth, deepest) == (len(entries), entries[-1].path)


def test_special_files_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Special files are skipped with a warning, or without one if they are ignored."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path, {"f": "x", ".dockerignore": "dropped\n.dockerignore"})
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "dropped")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("sock")

        tree = read(Project(tmp_path))

    assert ["f"] == paths(tree)
    assert [
        f"'{tmp_path}/pipe' is a FIFO and is left out of the workspace",
        f"'{tmp_path}/sock' is a socket and is left out of the workspace",
    ] == sorted(tree.warnings)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("a", ["b/", "b/a", "c"]),
        ("a\n!a/b/keep", ["a/", "a/b/", "a/b/keep", "b/", "b/a", "c"]),
        ("a\n!a/nothing", ["b/", "b/a", "c"]),
        ("*\n!c", ["c"]),
        ("**/a", ["b/", "c"]),
        ("**\n!**/keep", ["a/", "a/b/", "a/b/keep"]),
    ],
)
def test_ignored_files(tmp_path: Path, rules: str, expected: list[str]) -> None:
    """An ignored folder is added together with the kept files in it."""
    files = {"a/b/keep": "", "a/b/drop": "", "a/x": "", "b/a": "", "c": ""}
    make(tmp_path, {**files, ".dockerignore": f"{rules}\n.dockerignore"})
    (tmp_path / "a").chmod(0o711)

    tree = read(Project(tmp_path))

    assert expected == [path for path in paths(tree) if path != ".dockerignore"]
    assert {0o711} >= {entry.mode for entry in tree.entries if entry.path == "a"}


def test_ignored_folder_is_not_entered(tmp_path: Path) -> None:
    """An ignored folder is not entered, even if it exceeds the path limit."""
    make(tmp_path, {"drop/f": "", "f": "", ".dockerignore": "drop\n!keep"})
    dig = "import os\nfor _ in range(20): os.mkdir('d' * 250), os.chdir('d' * 250)"
    subprocess.run([sys.executable, "-c", dig], check=True, cwd=tmp_path / "drop")

    found = paths(read(Project(tmp_path)))

    subprocess.run(["rm", "-rf", "drop"], check=True, cwd=tmp_path)
    assert [".dockerignore", "f"] == found


def test_invalid_rules(tmp_path: Path) -> None:
    """The error of an invalid rule has the path of its .dockerignore."""
    make(tmp_path, {"f": "", ".dockerignore": "\n!"})

    with pytest.raises(WorkspaceError, match=rf"'{tmp_path}/\.dockerignore', line 2"):
        list_tree([Project(tmp_path)])


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            [("", {"a/x": "1", "a/y": "1"}), ("", {"a/y": "2", "b": "2"})],
            {"a": None, "a/x": "1", "a/y": "2", "b": "2"},
        ),
        ([("", {"a/x": "1"}), ("", {"a": "2"})], {"a": "2"}),
        ([("", {"a": "1"}), ("", {"a/x": "2"})], {"a": None, "a/x": "2"}),
        ([("", {"a": "1"}), ("a/b", {"x": "2"})], {"a": None, "a/b": None, "a/b/x": "2"}),
        ([("lib/x", {"f": "1"})], {"lib": None, "lib/x": None, "lib/x/f": "1"}),
        ([("", {"f": "1"}), ("d", {})], {"f": "1", "d": None}),
        (
            [("", {"a": "1", "b": "1", ".dockerignore": "a\n.d*"}), ("", {"a": "2", "b": "2"})],
            {"a": "2", "b": "2"},
        ),
        (
            [("", {"a": "1"}), ("", {"a": "2", "b": "2", ".dockerignore": "a\n.d*"})],
            {"a": "1", "b": "2"},
        ),
        ([("x", {"a": "1", "b": "1", ".dockerignore": "/a\n.d*"})], {"x": None, "x/b": "1"}),
    ],
)
def test_parts_are_merged(
    tmp_path: Path, parts: list[tuple[str, dict[str, str]]], expected: Files
) -> None:
    """Later files win, folders are merged, and each part has its own rules."""
    projects = [
        Project(make(tmp_path / f"{number}", files), target)
        for number, (target, files) in enumerate(parts)
    ]

    assert dict(sorted(expected.items())) == contents(read(*projects))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            [("", {"x.log": "", ".dockerignore": "*.log"}), ("b", {"y.log": "", "z": ""})],
            "TorchX applies the root's to all parts, so it leaves out b/y.log",
        ),
        (
            [("", {"x": "", ".dockerignore": "data"}), ("data/small", {"y": ""})],
            "so it leaves out data/small/y",
        ),
        (
            [("", {".dockerignore": "b/u"}), ("b", {"t/x": "", "u": "", ".dockerignore": "t\nu"})],
            "so it sends b/t",
        ),
        (
            [("", {"x": "", ".dockerignore": "x"}), ("", {"x": "", "y": "", ".dockerignore": "y"})],
            None,
        ),
        (
            [("", {"x": "", "y": "", ".dockerignore": "x"}), ("", {"z": "", ".dockerignore": "y"})],
            "so it leaves out y, and sends x",
        ),
        ([("", {"x": "", ".dockerignore": "*.log"}), ("b", {"y": ""})], None),
        ([("", {"x": ""}), ("b", {"y": "", ".dockerignore": "y"})], "so it sends b/y"),
        (
            [("a", {"x": "", ".dockerignore": "x"}), ("b", {"y": "", ".dockerignore": "y"})],
            "so it sends a/x, b/y",
        ),
        ([("", {"x": ""}), ("b", {"y": "", ".dockerignore": "z"})], None),
        ([("b", {"y": "", "z": "", ".dockerignore": "y"})], "so it sends b/y"),
        ([("b/c", {"y": "", "z/y": "", ".dockerignore": "z/"})], "so it sends b/c/z"),
        ([("b", {"y": "", "z": "", ".dockerignore": "x"})], None),
        ([("b", {"y": "", "z": ""})], None),
        ([("", {"y": "", "z": "", ".dockerignore": "y"})], None),
    ],
)
def test_rules_of_parts(
    tmp_path: Path, parts: list[tuple[str, dict[str, str]]], expected: str | None
) -> None:
    """A warning names the files that TorchX would leave out or send, if it applies other rules."""
    projects = [
        Project(make(tmp_path / f"{number}", files), target)
        for number, (target, files) in enumerate(parts)
    ]

    assert [expected] * (expected is not None) == [
        warning[-len(str(expected)) :] for warning in read(*projects).warnings
    ]


def test_rules_from_a_single_file(tmp_path: Path) -> None:
    """A file that is mapped to .dockerignore applies to no part, and a listed file is not named."""
    make(tmp_path, {"code/x": "", "rules": "*", "code/y": ""})
    parts = [Project(tmp_path / "code"), Project(tmp_path / "rules", ".dockerignore")]

    tree = read(*parts, Project(tmp_path / "rules", "listed"))

    assert [".dockerignore", "listed", "x", "y"] == paths(tree)
    assert ["so it leaves out x, y"] == [warning[-21:] for warning in tree.warnings]


@pytest.mark.parametrize(
    ("target", "expected"),
    [("", "one.py"), ("lib", "lib/one.py"), ("new", "new"), ("new/x.py", "new/x.py")],
)
def test_part_is_a_file(tmp_path: Path, target: str, expected: str) -> None:
    """The target of a single file is its folder, or else its name."""
    make(tmp_path, {"root/lib/f": "f", "one.py": "one"})
    (tmp_path / "one.py").chmod(0o700)

    tree = read(Project(tmp_path / "root"), Project(tmp_path / "one.py", target))

    assert {expected: ("one", 0o700)} == {
        e.path: (Path(e.source).read_text(), e.mode) for e in tree.entries if e.mode == 0o700
    }


def test_single_file(tmp_path: Path) -> None:
    """A single file with a target is a workspace."""
    make(tmp_path, {"one.py": "one"})

    assert ["src/", "src/main.py"] == paths(read(Project(tmp_path / "one.py", "src/main.py")))


@pytest.mark.parametrize("is_ignored", [False, True])
def test_dockerfile(tmp_path: Path, is_ignored: bool) -> None:
    """An ignored Dockerfile is used, but is not a file of the workspace."""
    rules = "Dockerfile.torchx\n.dockerignore" if is_ignored else ".dockerignore"
    make(tmp_path, {"Dockerfile.torchx": "FROM x", "f": "", ".dockerignore": rules})

    tree = read(Project(tmp_path))

    assert b"FROM x" == tree.dockerfile
    assert is_ignored != ("Dockerfile.torchx" in paths(tree))


@pytest.mark.parametrize(
    ("targets", "expected"), [(("", ""), b"1"), (("", "x"), b"0"), (("x", "y"), None)]
)
def test_dockerfile_is_in_the_root(
    tmp_path: Path, targets: tuple[str, ...], expected: bytes | None
) -> None:
    """The Dockerfile in the root of the last part is used."""
    projects = [
        Project(make(tmp_path / f"{number}", {"Dockerfile.torchx": f"{number}"}), target)
        for number, target in enumerate(targets)
    ]

    assert expected == read(*projects).dockerfile


def test_mapped_dockerfile(tmp_path: Path) -> None:
    """A single file can be mapped to the Dockerfile."""
    make(tmp_path, {"src/f": "", "gpu.Dockerfile": "FROM gpu"})
    projects = [
        Project(tmp_path / "src"),
        Project(tmp_path / "gpu.Dockerfile", "Dockerfile.torchx"),
    ]

    assert b"FROM gpu" == read(*projects).dockerfile


@pytest.mark.parametrize("name", ["Dockerfile.torchx", ".dockerignore"])
def test_control_files_are_in_the_workspace(tmp_path: Path, name: str) -> None:
    """A control file may be a link within the workspace, but not out of it."""
    root = make(tmp_path / "root", {"docker/f": "", "f": ""})
    make(tmp_path, {"secret": ""})
    (root / name).symlink_to("docker/f")

    assert "f" in paths(read(Project(root)))

    for target in ("../secret", "docker", "nowhere"):
        (root / name).unlink()
        (root / name).symlink_to(target)
        with pytest.raises(WorkspaceError, match=f"{name}' is not a file in the workspace"):
            list_tree([Project(root)])


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("nowhere", "nowhere' does not exist"),
        ("dangling", "dangling' does not exist"),
        ("file", "file' is a file, not a folder"),
        ("pipe", "pipe' is a FIFO, not a folder"),
        ("file/x", "x' in the workspace cannot be read: Not a directory"),
        ("empty", "empty' has no files"),
        ("ignored", "ignored' has no files, or its .dockerignore ignores all"),
    ],
)
def test_invalid_workspaces(tmp_path: Path, name: str, what: str) -> None:
    """The error of an invalid workspace names it and says what to do."""
    make(tmp_path, {"file": "", "empty": None, "ignored/f": "", "ignored/.dockerignore": "**"})
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(WorkspaceError, match=what) as caught:
        list_tree([Project(tmp_path / name)])

    assert caught.value.fix


@pytest.mark.parametrize("name", [".wh.a.py", ".wh.a/b.py", "a/.wh.b", "a/.wh..wh..opq", ".wh."])
def test_names_that_delete_a_file(tmp_path: Path, name: str) -> None:
    """A name that deletes a file in an image is refused, unless it is ignored."""
    make(tmp_path, {name: "", "kept.wh.py": "", ".where": ""})

    with pytest.raises(WorkspaceError, match=r"'\.wh\.' in front"):
        list_tree([Project(tmp_path)])

    make(tmp_path, {".dockerignore": "**/.wh.*"})
    assert {"kept.wh.py", ".where"} <= set(paths(list_tree([Project(tmp_path)])))


def test_sole_dockerfile(tmp_path: Path) -> None:
    """A Dockerfile alone is a workspace, even if it is ignored."""
    make(tmp_path, {"Dockerfile.torchx": "FROM x", ".dockerignore": "**"})

    assert ((), b"FROM x") == (read(Project(tmp_path)).entries, read(Project(tmp_path)).dockerfile)


@pytest.mark.parametrize(
    ("content", "error"), [(None, "deleted"), ("longer", "changed"), ("", "changed")]
)
def test_changes_between_list_and_hash(tmp_path: Path, content: str | None, error: str) -> None:
    """A file that changes between listing and hashing raises an error with its path."""
    make(tmp_path, {"a": "1", "b": "1"})
    tree = list_tree([Project(tmp_path)])
    (tmp_path / "b").unlink()
    if content is not None:
        make(tmp_path, {"b": content})

    with pytest.raises(WorkspaceError, match=f"/b' .*{error} while") as caught:
        hash_tree(tree, should_stop=lambda: False)

    assert "Run again" in caught.value.fix


def test_stop_in_a_large_file(tmp_path: Path) -> None:
    """Hashing a large file can be stopped."""
    (tmp_path / "f").touch()
    os.truncate(tmp_path / "f", 1 << 40)

    with pytest.raises(StopRequested):
        read_tree([Project(tmp_path)], should_stop=lambda: True)


# The first read triggers late imports, which may be unreadable for the other user.
_AS_ANOTHER_USER: Final = """
import os, sys
from pathlib import Path
from airflow_torchx.workspace.tree import Project, read_tree
root = Path(sys.argv[1])
read = lambda: read_tree([Project(root)], should_stop=lambda: False)
read()
(root / sys.argv[2]).chmod(0)
if not os.getuid():
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    print([entry.path for entry in read().entries])
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("locked", "expected"),
    [
        ("a", "WorkspaceError '{root}/a' in the workspace cannot be read"),
        ("a/f", "WorkspaceError '{root}/a/f' in the workspace cannot be read: Permission denied."),
        (
            ".dockerignore",
            "WorkspaceError '{root}/.dockerignore' in the workspace cannot be read: Perm",
        ),
        ("drop", "['.dockerignore', 'a', 'a/f']"),
        ("half", "['.dockerignore', 'a', 'a/f']"),
    ],
)
def test_unreadable(locked: str, expected: str) -> None:
    """An unreadable path raises an error with its name, unless it is ignored."""
    # Not in tmp_path, which other users cannot enter.
    with tempfile.TemporaryDirectory() as folder:
        rules = "drop\nhalf\n!half/kept"
        root = make(Path(folder), {"a/f": "", "drop/f": "", "half/f": "", ".dockerignore": rules})
        root.chmod(0o755)

        command = [sys.executable, "-c", _AS_ANOTHER_USER, folder, locked]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout

        (root / locked).chmod(0o700)
        shutil.rmtree(root / "a")

    assert said.startswith(expected.format(root=root))


@pytest.mark.parametrize("rules", [None, "ignored"])
def test_the_output_of_this_process(tmp_path: Path, rules: str | None) -> None:
    """A file to which the process writes that reads the folder is left out: it changes."""
    make(tmp_path, {"a.py": "x"} | ({} if rules is None else {".dockerignore": rules}))
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from airflow_torchx.workspace.tree import Project, list_tree\n"
        "tree = list_tree([Project(Path.cwd())])\n"
        "print(*(one.path for one in tree.entries), *tree.warnings, sep='\\n')\n"
    )
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        command = [sys.executable, "-c", program]
        subprocess.run(command, cwd=tmp_path, stdout=out, stderr=err, check=True)

    assert [
        *([".dockerignore"] if rules else []),
        "a.py",
        *(
            f"'{tmp_path.resolve()}/{name}' is the output of this process and is left out of the "
            "workspace"
            for name in ("err", "out")
        ),
    ] == sorted(
        (tmp_path / "out").read_text().splitlines(), key=lambda line: (line[0] == "'", line)
    )
