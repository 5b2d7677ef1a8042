"""What arrives in an image is what a real ``docker build`` brings there."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from airflow_torchx.errors import WorkspaceError
from airflow_torchx.workspace.context import tar_stream
from airflow_torchx.workspace.tree import Project, read_tree

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

pytestmark = pytest.mark.docker

#: Path to kind, mode, and content or target.
Files = dict[str, tuple[str, int, bytes]]
#: Path to content of a file, target of a link, or nothing for a folder; and the mode.
Plan = dict[str, tuple[bytes | str | None, int]]

# Debian's client brings its own BuildKit; the one that is first on the PATH may have none.
BUILDKIT_CLIENT: Final = "/usr/bin/docker"

FIXED: Final[Plan] = {
    "x": (None, 0o755),
    "x/f.py": (b"1", 0o755),
    "x/g.txt": (b"2", 0o600),
    "x/deep": (None, 0o750),
    "x/deep/f.py": (b"3", 0o644),
    "y": (None, 0o700),
    "y/x": (b"4", 0o4755),
    "z": (None, 0o1777),
    "#a": (b"5", 0o644),
    "a*b": (b"6", 0o644),
    "aXb": (b"7", 0o644),
    "X": (b"8", 0o644),
    "!c": (b"9", 0o644),
    "with space": (b"10", 0o644),
    "ü": (b"", 0o640),
    "link": ("x", 0o777),
    "x/up": ("../../etc/passwd", 0o777),
    "dangling": ("nowhere", 0o777),
}


def make(plan: Plan, root: Path) -> None:
    """Make files, folders and links."""
    for path, (content, _) in sorted(plan.items()):
        if content is None:
            (root / path).mkdir(exist_ok=True, parents=True)
        elif isinstance(content, str):
            (root / path).symlink_to(content)
        else:
            (root / path).write_bytes(content)
    for path, (content, mode) in plan.items():
        if not isinstance(content, str):
            (root / path).chmod(mode)


def files_of(tar: bytes) -> Files:
    """Return what is in a tar."""
    found: Files = {}
    if not tar.strip(b"\0"):
        return found
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for item in archive:
            content = archive.extractfile(item) if item.isreg() else None
            data = content.read() if content else os.fsencode(item.linkname)
            kind = "file" if item.isreg() else "dir" if item.isdir() else "link"
            mode = 0o777 if item.issym() else item.mode & 0o7777
            found[item.name.strip("/")] = (kind, mode, data)
    return found


def ours(root: Path) -> Files:
    """Return what this package lays over a base image."""
    try:
        tree = read_tree([Project(root)], should_stop=lambda: False)
    except WorkspaceError as error:
        if "has no files" not in error.what:
            raise
        return {}
    return files_of(b"".join(tar_stream(tree.entries, on_bytes=lambda _: None)))


def run(command: list[str], *, buildkit: bool) -> subprocess.CompletedProcess[bytes]:
    """Run the docker command line."""
    env = {**os.environ, "DOCKER_BUILDKIT": str(int(buildkit))}
    return subprocess.run(command, check=False, capture_output=True, env=env)


def buildkits(root: Path) -> Files:
    """Return what BuildKit copies into an image; no image is left."""
    command = [BUILDKIT_CLIENT, "build", "--output=type=tar,dest=-", str(root)]
    built = run(command, buildkit=True)

    assert 0 == built.returncode, built.stderr.decode()
    return files_of(built.stdout)


def classic(root: Path) -> Files:
    """Return what the Engine's own builder copies into an image."""
    client = shutil.which("docker") or BUILDKIT_CLIENT
    built = run([client, "build", "-q", str(root)], buildkit=False)
    assert 0 == built.returncode, built.stderr.decode()
    image = built.stdout.decode().strip()
    try:
        saved = run([client, "save", image], buildkit=False)
    finally:
        assert 0 == run([client, "rmi", image], buildkit=False).returncode
    if b"empty export" in saved.stderr:
        return {}
    with tarfile.open(fileobj=io.BytesIO(saved.stdout)) as archive:
        layers = json.loads(_member(archive, "manifest.json"))[0]["Layers"]
        return {k: v for name in layers for k, v in files_of(_member(archive, name)).items()}


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def plainly(files: Files) -> Files:
    """Return files as the classic builder treats them.

    It makes up modes of folders that are dropped, and clears bits when it sets the owner.
    """
    return {k: (t, 0 if t == "dir" else mode & 0o777, data) for k, (t, mode, data) in files.items()}


def assert_same(root: Path) -> None:
    """Compare with both builders."""
    # No other build has an image of this.
    (root / "Dockerfile").write_text(f"FROM scratch\nLABEL run={uuid.uuid4().hex}\nCOPY . /\n")
    found = ours(root)
    with ThreadPoolExecutor() as pool:
        new, old = pool.map(lambda build: build(root), (buildkits, classic))

    assert plainly(old) == plainly(found)
    # Older BuildKits bring a dropped folder also where nothing in it is kept.
    assert {path: new[path] for path in old} == found
    assert {"dir"} >= {new[path][0] for path in new.keys() - old.keys()}


@pytest.mark.usefixtures("docker_engine")
@pytest.mark.parametrize(
    "rules",
    [
        None,
        b"",
        b"/x",
        b"x/",
        b"./x",
        b"//x//",
        b"y/../x",
        b"**",
        b"**\n!x/f.py",
        b"*\n!x",
        b"**/f.py",
        b"**/x",
        b"x/**",
        b"x/*/*.py",
        b"#a",
        b" #a",
        b"\\#a",
        b"a\\*b",
        b"[^a]*",
        b"[!a]",
        b"x/f.py\r\n\r\nX\r\n",
        b"\xef\xbb\xbfx/f.py\nX",
        b"\xef\xbb\xbf# a comment\nX",
        b"  X  \n\twith space\t",
        b"x\n!x/deep",
        b"x\n!x/deep/f.py",
        b"x\n! x/g.txt",
        b"x\n!x/*.txt\nx/g*",
        b"!x\nx",
        b"\\!c",
        b".dockerignore",
        b"*\n!.dockerignore",
        b".",
        b"..",
        b"/",
        "ü".encode(),
        b"?",
    ],
)
def test_fixed_rules(tmp_path: Path, rules: bytes | None) -> None:
    """Every way to write a rule means for us what it means for Docker."""
    make(FIXED, tmp_path)
    if rules is not None:
        (tmp_path / ".dockerignore").write_bytes(rules)

    assert_same(tmp_path)


@pytest.mark.usefixtures("docker_engine")
@pytest.mark.parametrize("rules", [b"!", b"x\n! ", b"!/", b"[", b"[]", b"x\\", b"[b-a]\n"])
def test_refused_rules(tmp_path: Path, rules: bytes) -> None:
    """A rule that Docker refuses is refused with the number of its line."""
    (tmp_path / "x").touch()
    (tmp_path / ".dockerignore").write_bytes(rules)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")

    built = run([BUILDKIT_CLIENT, "build", "-q", str(tmp_path)], buildkit=False)

    assert 0 != built.returncode
    with pytest.raises(WorkspaceError, match=r"line \d"):
        read_tree([Project(tmp_path)], should_stop=lambda: False)


def test_names_that_are_no_text(tmp_path: Path, docker_engine: DockerEngine) -> None:
    """File names that are not text arrive unchanged, long ones included."""
    assert docker_engine.info()
    for name in (b"\xff\xfe", b"caf\xe9.py", b"n" * 255, b"\xe9" * 200):
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_bytes(name)
    (tmp_path / ".dockerignore").write_bytes(b"caf*\n")

    (tmp_path / "Dockerfile").write_text(f"FROM scratch\nLABEL x={uuid.uuid4().hex}\nCOPY . /\n")

    assert plainly(classic(tmp_path)) == plainly(ours(tmp_path))


NAMES: Final = ("a", "b", "ab", "A", "c.py", ".d")
PLAIN: Final = st.sampled_from(NAMES)
WILD: Final = st.sampled_from(["*", "a*", "?", "*.py", "[ab]", "[^a]", "*b", ".*"])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Make up to 12 files, links and folders, up to four deep."""
    plan: Plan = {}
    paths = draw(st.lists(st.lists(PLAIN, min_size=1, max_size=4), min_size=1, max_size=12))
    for parts in paths:
        path = "/".join(parts)
        above = list(itertools.accumulate(parts[:-1], "{}/{}".format))
        if path in plan or any(plan.get(folder, (None, 0))[0] is not None for folder in above):
            continue
        for folder in above:
            plan.setdefault(folder, (None, draw(st.sampled_from([0o755, 0o700, 0o1777]))))
        content = draw(st.sampled_from([None, b"", b"1", b"22", "a", "../b"]))
        plan[path] = (content, draw(st.sampled_from([0o644, 0o755, 0o600, 0o4755])))
    return plan


@st.composite
def rules(draw: st.DrawFn) -> bytes:
    """Make up to six lines, such that all builders agree on what they mean.

    They do not agree on exceptions together with ``**``, and on exceptions with a wildcard above
    the last slash: older ones then enter too few folders, or check too few of those above a file.
    """
    deep = draw(st.booleans())
    part = st.one_of(PLAIN, PLAIN, WILD, *([st.just("**")] if deep else []))
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        if deep or not draw(st.booleans()):
            sign, parts = "", draw(st.lists(part, min_size=1, max_size=3))
        else:
            sign = draw(st.sampled_from(["!", "! "]))
            parts = [*draw(st.lists(PLAIN, max_size=2)), draw(part)]
        before = draw(st.sampled_from(["", "", "", "/", "./", "a/../"]))
        after = draw(st.sampled_from(["", "", "", "/", " ", "/."]))
        lines.append(f"{sign}{before}{'/'.join(parts)}{after}")
    lines += draw(st.lists(st.sampled_from(["", "# no rule", "  "]), max_size=2))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return (draw(st.sampled_from(["", "\ufeff"])) + end.join(draw(st.permutations(lines)))).encode()


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("docker_engine")
@settings(
    max_examples=15,
    deadline=None,
    # Two builds an example: what failed is small enough as it is.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(plan=plans(), text=rules())
def test_any_tree_and_any_rules(plan: dict[str, Any], text: bytes) -> None:
    """Any rules select the same files, folders, links and modes as Docker selects."""
    with tempfile.TemporaryDirectory() as folder:
        make(plan, Path(folder))
        (Path(folder) / ".dockerignore").write_bytes(text)

        assert_same(Path(folder))
