"""Tests `parse_mounts`."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_torchx.errors import InvalidAppError
from airflow_torchx.specs import BindMount, DeviceMount, VolumeMount, parse_mounts

HOME = str(Path.home())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=bind,src=/a,dst=/b", BindMount("/a", "/b")),
        ("type=bind,source=/a,destination=/b,readonly", BindMount("/a", "/b", read_only=True)),
        ("type=bind,target=/b,src=/a,read_only=1", BindMount("/a", "/b", read_only=True)),
        ("type=bind,src=/a,dst=/b,readonly=false", BindMount("/a", "/b")),
        ("type=bind,src=/a,dst=/b,read_only=False", BindMount("/a", "/b")),
        ("type=bind,src=/a,dst=/b,readonly,readonly=0", BindMount("/a", "/b")),
        ("type=bind,src=/a,dst=/b,readonly=TRUE", BindMount("/a", "/b", read_only=True)),
        ("type=volume,src=v,dst=/b,readonly=no", VolumeMount("v", "/b")),
        ("type=volume,src=v,dst=/b,read_only=on", VolumeMount("v", "/b", read_only=True)),
        ("type=bind,src=~/a/,dst=~", BindMount(f"{HOME}/a/", "~")),
        ("type=bind,src=~nobody-of-that-name/a,dst=/b", BindMount("~nobody-of-that-name/a", "/b")),
        ("type=volume,src=data,dst=/b", VolumeMount("data", "/b")),
        ("type=volume,src=~,dst=/b,readonly", VolumeMount("~", "/b", read_only=True)),
        ("type=device,src=/dev/a", DeviceMount("/dev/a", "/dev/a")),
        ("type=device,src=/dev/a,dst=,perm=rw", DeviceMount("/dev/a", "/dev/a", "rw")),
        ("type=device,src=/dev/a,dst=/dev/b,perm=r", DeviceMount("/dev/a", "/dev/b", "r")),
        ("type=bind,src=/a=b,dst=/c,src=/d=e", BindMount("/d=e", "/c")),
    ],
)
def test_one_mount(text: str, expected: object) -> None:
    """Each spelling of an option is accepted, and the last of equal options wins."""
    assert [expected] == parse_mounts(text.split(","))


def test_several_mounts() -> None:
    """Each type begins a mount, and no options give no mounts."""
    opts = "type=bind,src=/a,dst=/b,readonly,type=volume,src=v,dst=/c,type=device,src=/dev/a"

    assert [
        BindMount("/a", "/b", read_only=True),
        VolumeMount("v", "/c"),
        DeviceMount("/dev/a", "/dev/a"),
    ] == parse_mounts(opts.split(","))
    assert parse_mounts(opts) == parse_mounts(opts.split(","))
    assert [] == parse_mounts([])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=bind,scr=/a,dst=/b", ["unknown option 'scr=/a'; did you mean 'src'?", "src is mis"]),
        ("type=bind,x=1,src=/a,dst=/b", ["unknown option 'x=1'; use one of type, destination,"]),
        ("src=/a,dst=/b", ["'src=/a' comes before any type; begin", "'dst=/b' comes before any"]),
        ("type=bnd,src=/a", ["mounts 'type=bnd,src=/a': unknown type 'bnd'; did you mean 'bind'?"]),
        ("type=", ["unknown type ''; use one of bind, volume, device"]),
        ("type=bind", ["src is missing; add src=/on/the/host", "dst is missing; add dst=/in/the/"]),
        ("type=volume,src=,dst=/b", ["src is missing; add src=name-of-the-volume"]),
        ("type=device", ["src is missing; add src=/dev/name"]),
        ("type=device,src=/dev/a,perm=rx", ["invalid permissions perm=rx; combine r"]),
        ("type=device,src=/dev/a,perm=", ["invalid permissions perm=;"]),
        ("type=bind,src=/a,dst=/b,readonly=flase", ["invalid readonly=flase; write true or false"]),
        ("type=volume,src=v,dst=/b,read_only=", ["invalid readonly=; write true or false"]),
        ("type=bnd,type=device", ["unknown type 'bnd'", "src is missing"]),
    ],
)
def test_mistakes(text: str, expected: list[str]) -> None:
    """Every mistake is reported with its option and a fix."""
    with pytest.raises(InvalidAppError) as caught:
        parse_mounts(text.split(","))

    problems = [str(problem) for problem in caught.value.problems]
    assert len(expected) == len(problems)
    assert all(text in problem for text, problem in zip(expected, problems, strict=True))
