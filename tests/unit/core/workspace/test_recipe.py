"""Tests of workspace images: their keys, labels and layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.images import ImageDetail, ImageRow
from airflow_torchx.core.workspace import recipe
from airflow_torchx.core.workspace.tree import Entry
from airflow_torchx.specs import AppDef, Role, Workspace

A = Entry(path="a.py", kind="file", mode=0o644, size_bytes=10, digest="aa", source="/x/a.py")
B = Entry(path="pkg/b.py", kind="file", mode=0o755, size_bytes=30, digest="bb", source="/x/b.py")
PKG = Entry(path="pkg", kind="dir", mode=0o755)
LINK = Entry(path="link", kind="link", mode=0o777, digest="ll", link="a.py")
FILES = (A, LINK, PKG, B)

RECIPE = recipe.Recipe(
    base_id="sha256:1",
    base="base",
    directory="/workspace",
    entries=FILES,
    workspace_id="w",
    build_args={"X": "1"},
)


def row(number: int, **changed: Any) -> ImageRow:  # noqa: ANN401 - any field
    """Return an image of the recipe's workspace; higher numbers are newer."""
    key = f"key{number}"
    return replace(
        ImageRow(
            id=f"sha256:{number}",
            tags=(recipe.local_tag(key),),
            labels={
                labels.WORKSPACE_ID: "w",
                labels.WORKSPACE_KEY: key,
                labels.WORKSPACE_BASE_ID: "sha256:1",
                labels.WORKSPACE_DEPTH: "1",
            },
            created_s=float(number),
        ),
        **changed,
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"base_id": "sha256:2"},
        {"directory": "/app"},
        {"entries": (A, LINK, PKG)},
        {"entries": (replace(A, digest="ab"), LINK, PKG, B)},
        {"entries": (replace(A, mode=0o755), LINK, PKG, B)},
        {"entries": (replace(A, path="c.py"), LINK, PKG, B)},
        {"entries": (A, replace(LINK, digest="mm"), PKG, B)},
        {"entries": (A, LINK, replace(PKG, mode=0o700), B)},
        {"entries": (A, LINK, PKG, B, Entry(path="x", kind="dir", mode=0o755))},
        {"dockerfile": b"FROM x"},
    ],
)
def test_what_changes_the_key(changed: dict[str, Any]) -> None:
    """The key depends on the base, the files with their modes and names, and the Dockerfile."""
    assert RECIPE.key != replace(RECIPE, **changed).key


@pytest.mark.parametrize(
    "changed",
    [
        {"base": "the same under another name"},
        {"workspace_id": "x"},
        {"build_args": {}},
        {"target": "stage"},
        {"entries": (replace(A, source="/elsewhere/a.py"), LINK, PKG, B)},
    ],
)
def test_what_does_not_change_the_key(changed: dict[str, Any]) -> None:
    """Build arguments and target do not change the key of a workspace without a Dockerfile."""
    assert RECIPE.key == replace(RECIPE, **changed).key


@pytest.mark.parametrize(
    "changed", [{"build_args": {"X": "2"}}, {"target": "stage"}, {"dockerfile": b"FROM y"}]
)
def test_what_changes_the_key_with_a_dockerfile(changed: dict[str, Any]) -> None:
    """The key depends on the text, the build arguments and the target of a Dockerfile."""
    recipe = replace(RECIPE, dockerfile=b"FROM x")

    assert recipe.key != replace(recipe, **changed).key


@pytest.mark.parametrize(
    "changed",
    [
        {"entries": (replace(A, digest="ab"), LINK, PKG, B)},
        {"entries": (A, LINK, PKG)},
        {"dockerfile": b"FROM x"},
    ],
)
def test_other_content_has_another_digest(changed: dict[str, Any]) -> None:
    """The digest depends on the files of the user and on their Dockerfile."""
    assert RECIPE.digest != replace(RECIPE, **changed).digest


@pytest.mark.parametrize("changed", [{"base_id": "sha256:2"}, {"base": "x"}, {"directory": "/x"}])
def test_the_digest_does_not_depend_on_the_base(changed: dict[str, Any]) -> None:
    """A retry recognizes its workspace before it looks at any image."""
    assert RECIPE.digest == replace(RECIPE, **changed).digest


def test_another_runner_of_functions_keeps_the_digest() -> None:
    """A release that brings another runner builds another image, but keeps the app that runs."""
    old, new = (
        replace(RECIPE, entries=(replace(A, path=".airflow-torchx/run.py", digest=digest), *FILES))
        for digest in ("aa", "bb")
    )

    assert old.digest == new.digest
    assert old.key != new.key


def test_line_breaks_in_names() -> None:
    """A line break in a file name cannot fake a second file."""
    two = (Entry(path="a", kind="dir", mode=0o755), Entry(path="b", kind="dir", mode=0o755))
    one = (Entry(path='a", "d755 "]\n["b', kind="dir", mode=0o755),)

    assert replace(RECIPE, entries=two).key != replace(RECIPE, entries=one).key


def test_names_that_are_not_utf_8() -> None:
    """A file name that is not UTF-8 has a key and a manifest."""
    odd = (Entry(path="\udcff.py", kind="file", mode=0o644, digest="aa"),)

    assert replace(RECIPE, entries=odd).key
    assert () == recipe.changes(recipe.manifest(odd), odd)


def test_labels_of_an_image() -> None:
    """The labels have the workspace, the key, the base and the number of layers."""
    found = RECIPE.labels(3)

    assert "w" == found[labels.WORKSPACE_ID]
    assert RECIPE.key == found[labels.WORKSPACE_KEY]
    assert "sha256:1" == found[labels.WORKSPACE_BASE_ID]
    assert "3" == found[labels.WORKSPACE_DEPTH]


def test_a_manifest_matches_the_key_of_its_image() -> None:
    """A manifest matches the key of its own files only, and an invalid one matches none."""
    one, other = replace(RECIPE, entries=(A, LINK)), replace(RECIPE, entries=(A, B))
    manifest = recipe.manifest(one.entries)

    assert other.is_manifest_of(manifest, one.key)
    assert not other.is_manifest_of(manifest, other.key)
    assert not replace(other, base_id="sha256:2").is_manifest_of(manifest, one.key)
    assert not other.is_manifest_of(b"[]", one.key)


def test_changes_are_new_or_different_files() -> None:
    """Changes are the files that are new or differ from the manifest."""
    before = recipe.manifest((A, LINK, PKG))
    now = (replace(A, mode=0o600), LINK, PKG, B)

    assert (now[0], B) == recipe.changes(before, now)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ((A, B), (A,)),
        ((A, PKG), (A, replace(A, path="pkg"))),
        ((A, LINK), (A, replace(A, path="link"))),
    ],
)
def test_changes_that_need_more_than_a_layer(
    before: tuple[Entry, ...], now: tuple[Entry, ...]
) -> None:
    """Removing a path or changing its kind needs more than a layer on top."""
    assert recipe.changes(recipe.manifest(before), now) is None


@pytest.mark.parametrize(
    "manifest", [b"", b"no JSON", b"[]", b'{"format": 99, "files": {}}', b'{"format": 1}', b"\xff"]
)
def test_an_invalid_manifest(manifest: bytes) -> None:
    """Changes on top of an invalid manifest are unknown."""
    assert recipe.changes(manifest, FILES) is None


@given(
    st.dictionaries(st.text("abc/", min_size=1, max_size=4), st.sampled_from("pqr")),
    st.dictionaries(st.text("abc/", min_size=1, max_size=4), st.sampled_from("pqr")),
)
def test_changes_on_top_of_the_last_files_are_the_new_files(
    before: dict[str, str], now: dict[str, str]
) -> None:
    """The changes on top of the old files are the new files."""
    old, new = (
        {path: Entry(path=path, kind="file", mode=0o644, digest=d) for path, d in files.items()}
        for files in (before, now)
    )
    changed = recipe.changes(recipe.manifest(old.values()), [*new.values()])

    if changed is None:
        assert not old.keys() <= new.keys()
    else:
        assert new == {**old, **{entry.path: entry for entry in changed}}


def test_small_and_large_changes() -> None:
    """A change of more than half of the bytes is not small."""
    assert recipe.is_small([A], RECIPE)
    assert not recipe.is_small([B], RECIPE)


def test_the_parent_is_the_newest_image() -> None:
    """The parent is the newest layered image of the same base that this package tagged."""
    other = {**row(9).labels, labels.WORKSPACE_BASE_ID: "sha256:2"}
    built = {**row(7).labels, labels.WORKSPACE_DEPTH: "0"}
    derived = row(6, tags=("somebody/elses:own",))
    rows = [row(1), row(3), row(2), row(9, labels=other), derived, row(7, labels=built)]

    assert row(3) == recipe.parent_of(rows, RECIPE)
    assert recipe.parent_of([derived], RECIPE) is None


def test_an_image_of_sixteen_layers_is_not_a_parent() -> None:
    """An image of sixteen layers is not a parent, and neither are older images."""
    deep = row(8, labels={**row(8).labels, labels.WORKSPACE_DEPTH: "16"})

    assert recipe.parent_of([row(7), deep], RECIPE) is None
    assert row(9) == recipe.parent_of([row(7), deep, row(9)], RECIPE)


def test_the_oldest_images_are_surplus() -> None:
    """The oldest images are surplus, but never an image that a user built on top."""
    derived = row(0, tags=("somebody/elses:own",))

    rows = [row(3), row(1), derived, row(4), row(2)]

    assert (row(1), row(2)) == recipe.surplus(rows, 2, newest="key4")
    assert (row(2), row(3)) == recipe.surplus(rows, 2, newest="key1")
    assert () == recipe.surplus([row(1)], 1, newest="key1")


def test_the_local_tag_comes_last() -> None:
    """The local tag comes last."""
    local = recipe.local_tag("key1")
    image = row(1, tags=(local, "mine:latest", "reg:5000/x:key1"))

    assert ("reg:5000/x:key1", local) == recipe.own_tags(image)


@pytest.mark.parametrize(
    ("working_dir", "where"),
    [("", "/workspace"), ("/", "/workspace"), ("/app", "/app"), ("/a/b/", "/a/b")],
)
def test_the_target_folder_of_the_files(working_dir: str, where: str) -> None:
    """The files go to the image's working directory, or to /workspace instead of /."""
    assert where == recipe.directory(ImageDetail(id="x", working_dir=working_dir))


@pytest.mark.parametrize(
    ("detail", "can"),
    [
        (ImageDetail(id="x"), True),
        (ImageDetail(id="x", volumes=("/data", "/application")), True),
        (ImageDetail(id="x", volumes=("/app",)), False),
        (ImageDetail(id="x", volumes=("/",)), False),
        (ImageDetail(id="x", on_build=("RUN x",)), False),
    ],
)
def test_bases_that_need_a_build(detail: ImageDetail, *, can: bool) -> None:
    """A base with ONBUILD or a volume around the target needs a build."""
    assert can == recipe.can_be_layered(detail, "/app/code")


ACCOUNTS = "root:x:0:0:root:/root:/bin/sh\njovyan:x:1000:100::/home/jovyan:/bin/sh\nodd line\n"
GROUPS = "root:x:0:\nusers:x:100:\nstaff:x:50:jovyan\n"


@pytest.mark.parametrize(
    ("user", "numbers"),
    [
        ("", (0, 0)),
        ("root", (0, 0)),
        ("jovyan", (1000, 100)),
        ("1000", (1000, 100)),
        ("1234", (1234, 0)),
        ("jovyan:staff", (1000, 50)),
        ("1234:5678", (1234, 5678)),
        ("nobody-here", None),
        ("jovyan:nobody-here", None),
    ],
)
def test_files_belong_to_the_user_of_the_image(user: str, numbers: tuple[int, int] | None) -> None:
    """The files belong to the user of the image, looked up as Docker does it."""
    assert numbers == recipe.owner(user, ACCOUNTS, GROUPS)


def test_a_workspace_applies_to_roles_without_one() -> None:
    """A workspace applies to the roles that have none."""
    own = Workspace({"/own": ""})
    app = AppDef("app", [Role("a", "x"), Role("b", "x", workspace=own)])

    changed = recipe.with_workspace(app, "/code")

    assert [Workspace({"/code": ""}), own] == [role.workspace for role in changed.roles]
    assert app == recipe.with_workspace(app, None) == recipe.with_workspace(app, "")


def test_an_id_does_not_depend_on_the_folder() -> None:
    """The id of a workspace does not depend on where its source root is."""
    parts = [("code", ""), ("./x", "y")]
    here, there = recipe.SourceRoot("/v1/dags", "dags"), recipe.SourceRoot("/v2/dags", "dags")

    known = recipe.workspace_id(parts, "base", here)

    assert known == recipe.workspace_id(parts, "base", there)
    assert known != recipe.workspace_id(parts, "base", recipe.SourceRoot("/v1/dags", "other"))
    assert known != recipe.workspace_id(parts, "other", here)
    assert known != recipe.workspace_id(parts[:1], "base", here)


@pytest.mark.parametrize("source", ["/abs", "~/home", "s3://bucket/x"])
def test_ids_of_absolute_sources(source: str) -> None:
    """The id of an absolute path, a home path or a URL does not depend on the source root."""
    known = {
        recipe.workspace_id([(source, "")], "base", recipe.SourceRoot("/x", name))
        for name in ("a", "b")
    }

    assert 1 == len(known)


def test_ids_of_inline_text() -> None:
    """The id of inline text depends on its target, so that an edit makes a small layer."""
    source_root = recipe.SourceRoot("/dags", "dags")
    known = recipe.workspace_id([("data:,a", "x.py")], "base", source_root)

    assert known == recipe.workspace_id([("data:,b", "x.py")], "base", source_root)
    assert known != recipe.workspace_id([("data:,a", "y.py")], "base", source_root)
