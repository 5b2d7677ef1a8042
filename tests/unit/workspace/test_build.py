"""The context of an image build."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.specs import Role
from airflow_torchx.testing import FakeEngine
from airflow_torchx.workspace.docker_workspace import DockerWorkspaceMixin

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: The Engine ignores what this file ignores, so the first line takes the file itself out.
OWN: Final = b".dockerignore\n"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("**/*.log\n", OWN),
        ("b\n", OWN),
        ("# none\n", b"# none\n"),
        ("*.log\n", b"*.log\n"),
        ("**/*.log\n!b/*\n", b"**/*.log\n!b/*\n"),
        (None, None),
    ],
)
def test_the_engine_ignores_no_file_of_another_part(
    tmp_path: Path, rules: str | None, expected: bytes | None
) -> None:
    """The context has the .dockerignore of the root, unless that ignores files of other parts."""
    contexts: list[Mapping[str, bytes]] = []
    engine = FakeEngine(images=["base"], builds=lambda _, files: contexts.append(files))
    for path in ("a/Dockerfile.torchx", "a/x.log", "b/y.log"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    if rules is not None:
        (tmp_path / "a/.dockerignore").write_text(rules)
    mixin = DockerWorkspaceMixin(engine, terminal=False)
    parts = {f"{tmp_path}/a": "", f"{tmp_path}/b": "b"}

    mixin.build_workspace_and_update_role(Role("a", "base"), parts)

    assert [expected] == [context.get(".dockerignore") for context in contexts]
    assert b"" == contexts[0]["b/y.log"]
