"""Tests named resources without TorchX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx.errors import ComponentError, InvalidAppError
from airflow_torchx.specs import (
    NULL_RESOURCE,
    Resource,
    get_named_resources,
    named_resources,
    resource,
)

if TYPE_CHECKING:
    from pathlib import Path

TAG = "torchx/named_resources.name"


@pytest.mark.parametrize("name", ["gpu.medium", "GPU.Medium"])
def test_name_wins(name: str) -> None:
    """A name in any case overrides the numbers and is kept in the tags, as in TorchX."""
    expected = Resource(cpu=16, gpu=2, memMB=65536, tags={TAG: "gpu.medium"})

    assert expected == resource(cpu=1, gpu=0, memMB=1, h=name)


def test_null_resource() -> None:
    """The null resource has both of TorchX's names."""
    assert NULL_RESOURCE == resource(h="NULL") == resource(h="missing")


@pytest.mark.parametrize(
    ("name", "fix"),
    [("gpu.smal", "Did you mean 'gpu.small'?"), ("p5", "Known resources: MISSING, NULL")],
)
def test_unknown_name(name: str, fix: str) -> None:
    """An unknown name is rejected with the closest name, or with all names."""
    with pytest.raises(ComponentError, match=f"unknown named resource '{name}'") as caught:
        resource(h=name)

    assert fix in caught.value.fix


def test_names_are_a_mapping() -> None:
    """The named resources are a mapping in which a missing name is a KeyError, as in TorchX."""
    assert resource(h="gpu.small") == named_resources["gpu.small"] == named_resources["GPU.small"]
    assert resource(h="cpu.nano") == get_named_resources("cpu.nano")
    assert {"gpu.small", "cpu.xlarge", "NULL"} <= {*named_resources}
    assert len(named_resources) == len([*named_resources.keys()]) == len({*named_resources})
    assert NULL_RESOURCE == dict(named_resources.items())["MISSING"]
    assert ["gpu.small"] == [name for name in ("gpu.small", "gpu.tiny") if name in named_resources]
    assert named_resources.get("gpu.tiny") is None
    with pytest.raises(KeyError) as caught:
        named_resources["gpu.smal"]
    assert "unknown named resource 'gpu.smal'\nDid you mean 'gpu.small'?" == str(caught.value)


def test_users_add_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points add resources, which take precedence and can be ambiguous."""
    info = tmp_path / "more_resources-1.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 1\n")
    info.joinpath("entry_points.txt").write_text(
        "[airflow_torchx.named_resources]\n"
        "team.big = more_named_resources:big\n"
        "gpu.small = more_named_resources:SMALL\n"
        "GPU.SMALL = more_named_resources:SMALL\n"
        "wrong = more_named_resources:TAG\n"
    )
    tmp_path.joinpath("more_named_resources.py").write_text(
        "from airflow_torchx.specs import Resource\n"
        "def big(): return Resource(cpu=7, gpu=7, memMB=7, tags={'a': 'b'})\n"
        "SMALL = Resource(cpu=3, gpu=0, memMB=3)\n"
        "TAG = 'x'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    assert Resource(cpu=7, gpu=7, memMB=7, tags={TAG: "team.big", "a": "b"}) == resource(
        h="Team.Big"
    )
    assert 3 == resource(h="gpu.small").cpu
    assert 1 == [*named_resources].count("gpu.small")
    assert 2 == resource(h="cpu.large").cpu
    with pytest.raises(ComponentError, match=r"is ambiguous: gpu.small, GPU.SMALL"):
        resource(h="Gpu.Small")
    with pytest.raises(InvalidAppError, match="expected a Resource, got str"):
        resource(h="wrong")
