"""Workspace images: what makes two of them the same, and what a change takes."""

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
    """Return an image of the recipe's workspace, the higher the number the newer."""
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
def test_whatever_changes_the_image_changes_the_key(changed: dict[str, Any]) -> None:
    """A changed base, file, mode, name, link, empty folder, or Dockerfile."""
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
def test_what_does_not_change_the_image_leaves_the_key(changed: dict[str, Any]) -> None:
    """Without a Dockerfile of its own, build arguments and stage decide nothing."""
    assert RECIPE.key == replace(RECIPE, **changed).key


@pytest.mark.parametrize(
    "changed", [{"build_args": {"X": "2"}}, {"target": "stage"}, {"dockerfile": b"FROM y"}]
)
def test_with_a_dockerfile_its_arguments_count(changed: dict[str, Any]) -> None:
    """And its stage, and its text."""
    recipe = replace(RECIPE, dockerfile=b"FROM x")

    assert recipe.key != replace(recipe, **changed).key


def test_a_line_break_in_a_name_fakes_no_other_file() -> None:
    """Names are any bytes but a zero and a slash."""
    two = (Entry(path="a", kind="dir", mode=0o755), Entry(path="b", kind="dir", mode=0o755))
    one = (Entry(path='a", "d755 "]\n["b', kind="dir", mode=0o755),)

    assert replace(RECIPE, entries=two).key != replace(RECIPE, entries=one).key


def test_a_name_that_is_no_text_has_a_key_and_a_manifest() -> None:
    """As `os.fsdecode` makes it."""
    odd = (Entry(path="\udcff.py", kind="file", mode=0o644, digest="aa"),)

    assert replace(RECIPE, entries=odd).key
    assert () == recipe.changes(recipe.manifest(odd), odd)


def test_labels_tell_which_workspace_which_files_and_how_deep() -> None:
    """They are what any client of the daemon finds the image by."""
    told = RECIPE.labels(3)

    assert "w" == told[labels.WORKSPACE_ID]
    assert RECIPE.key == told[labels.WORKSPACE_KEY]
    assert "sha256:1" == told[labels.WORKSPACE_BASE_ID]
    assert "3" == told[labels.WORKSPACE_DEPTH]


def test_a_manifest_is_known_by_the_key_of_its_image() -> None:
    """One of other files is not, nor what is none."""
    one, other = replace(RECIPE, entries=(A, LINK)), replace(RECIPE, entries=(A, B))
    manifest = recipe.manifest(one.entries)

    assert other.is_manifest_of(manifest, one.key)
    assert not other.is_manifest_of(manifest, other.key)
    assert not replace(other, base_id="sha256:2").is_manifest_of(manifest, one.key)
    assert not other.is_manifest_of(b"[]", one.key)


def test_changes_are_what_is_new_or_different() -> None:
    """The manifest of the last image tells."""
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
def test_what_files_on_top_cannot_do(before: tuple[Entry, ...], now: tuple[Entry, ...]) -> None:
    """Nothing is taken away, and nothing becomes something else."""
    assert recipe.changes(recipe.manifest(before), now) is None


@pytest.mark.parametrize(
    "manifest", [b"", b"no JSON", b"[]", b'{"format": 99, "files": {}}', b'{"format": 1}', b"\xff"]
)
def test_a_manifest_that_is_none_is_not_believed(manifest: bytes) -> None:
    """Everything is put anew."""
    assert recipe.changes(manifest, FILES) is None


@given(
    st.dictionaries(st.text("abc/", min_size=1, max_size=4), st.sampled_from("pqr")),
    st.dictionaries(st.text("abc/", min_size=1, max_size=4), st.sampled_from("pqr")),
)
def test_changes_on_top_of_the_last_files_are_the_new_files(
    before: dict[str, str], now: dict[str, str]
) -> None:
    """Whatever the two are."""
    old, new = (
        {path: Entry(path=path, kind="file", mode=0o644, digest=d) for path, d in files.items()}
        for files in (before, now)
    )
    changed = recipe.changes(recipe.manifest(old.values()), [*new.values()])

    if changed is None:
        assert not old.keys() <= new.keys()
    else:
        assert new == {**old, **{entry.path: entry for entry in changed}}


def test_a_large_change_is_no_small_layer() -> None:
    """Half of the bytes at most."""
    assert recipe.is_small([A], RECIPE)
    assert not recipe.is_small([B], RECIPE)


def test_the_next_layer_goes_onto_the_newest_image() -> None:
    """Of the same base, whose files we put there ourselves."""
    other = {**row(9).labels, labels.WORKSPACE_BASE_ID: "sha256:2"}
    built = {**row(7).labels, labels.WORKSPACE_DEPTH: "0"}
    derived = row(6, tags=("somebody/elses:own",))
    rows = [row(1), row(3), row(2), row(9, labels=other), derived, row(7, labels=built)]

    assert row(3) == recipe.parent_of(rows, RECIPE)
    assert recipe.parent_of([derived], RECIPE) is None


def test_no_layer_goes_onto_the_sixteenth() -> None:
    """Nor onto one below it, which would only put it off."""
    deep = row(8, labels={**row(8).labels, labels.WORKSPACE_DEPTH: "16"})

    assert recipe.parent_of([row(7), deep], RECIPE) is None
    assert row(9) == recipe.parent_of([row(7), deep, row(9)], RECIPE)


def test_the_oldest_images_are_surplus_and_other_peoples_never() -> None:
    """An image that was built on a workspace image carries its labels as well."""
    derived = row(0, tags=("somebody/elses:own",))

    rows = [row(3), row(1), derived, row(4), row(2)]

    assert (row(1), row(2)) == recipe.surplus(rows, 2, newest="key4")
    assert (row(2), row(3)) == recipe.surplus(rows, 2, newest="key1")
    assert () == recipe.surplus([row(1)], 1, newest="key1")


def test_our_names_of_an_image_come_with_the_local_one_last() -> None:
    """So that one that is in use keeps it."""
    local = recipe.local_tag("key1")
    image = row(1, tags=(local, "mine:latest", "reg:5000/x:key1"))

    assert ("reg:5000/x:key1", local) == recipe.own_tags(image)


@pytest.mark.parametrize(
    ("working_dir", "where"),
    [("", "/workspace"), ("/", "/workspace"), ("/app", "/app"), ("/a/b/", "/a/b")],
)
def test_files_go_where_the_image_starts(working_dir: str, where: str) -> None:
    """But never over the root of a system."""
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
def test_where_a_build_would_do_more_there_is_a_build(detail: ImageDetail, *, can: bool) -> None:
    """Files in a volume are no part of an image, and ONBUILD waits for a build."""
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
def test_files_belong_to_whom_the_image_runs_as(user: str, numbers: tuple[int, int] | None) -> None:
    """By the image's own accounts, as Docker reads them."""
    assert numbers == recipe.owner(user, ACCOUNTS, GROUPS)


def test_a_workspace_is_for_roles_without_one() -> None:
    """A role's own stays."""
    own = Workspace({"/own": ""})
    app = AppDef("app", [Role("a", "x"), Role("b", "x", workspace=own)])

    given_ = recipe.with_workspace(app, "/code")

    assert [Workspace({"/code": ""}), own] == [role.workspace for role in given_.roles]
    assert app == recipe.with_workspace(app, None) == recipe.with_workspace(app, "")


def test_a_workspace_is_the_same_wherever_its_folder_lies() -> None:
    """Airflow checks each version of a bundle out into a folder of its own."""
    parts = [("code", ""), ("./x", "y")]
    here, there = recipe.SourceRoot("/v1/dags", "dags"), recipe.SourceRoot("/v2/dags", "dags")

    known = recipe.workspace_id(parts, "base", here)

    assert known == recipe.workspace_id(parts, "base", there)
    assert known != recipe.workspace_id(parts, "base", recipe.SourceRoot("/v1/dags", "other"))
    assert known != recipe.workspace_id(parts, "other", here)
    assert known != recipe.workspace_id(parts[:1], "base", here)


@pytest.mark.parametrize("source", ["/abs", "~/home", "s3://bucket/x"])
def test_a_source_that_says_where_it_is_needs_no_place(source: str) -> None:
    """An absolute path, a home, a URL."""
    known = {
        recipe.workspace_id([(source, "")], "base", recipe.SourceRoot("/x", name))
        for name in ("a", "b")
    }

    assert 1 == len(known)


def test_a_text_is_the_same_source_whatever_it_says() -> None:
    """Its file is what it is known by, so that an edited text gives a small layer."""
    source_root = recipe.SourceRoot("/dags", "dags")
    known = recipe.workspace_id([("data:,a", "x.py")], "base", source_root)

    assert known == recipe.workspace_id([("data:,b", "x.py")], "base", source_root)
    assert known != recipe.workspace_id([("data:,a", "y.py")], "base", source_root)
