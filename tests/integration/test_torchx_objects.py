"""TorchX's own apps, components and resources, in our hands; 0.7.0's and the newest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from airflow_torchx.specs import (
    AppDef,
    BindMount,
    DeviceMount,
    Resource,
    RetryPolicy,
    Role,
    VolumeMount,
    Workspace,
    to_dict,
)

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent

#: A user's component in a file of its own, and command lines for it.
OWN_FILE: Final = '''\
from typing import Dict, List, Optional

import torchx.specs as specs

from beside_it import NAME


def fn(
    *args: str,
    model: str,
    lr: float = 0.1,
    epochs: int = 3,
    fast: bool = False,
    tags: Optional[List[str]] = None,
    sizes: Optional[List[int]] = None,
    env: Optional[Dict[str, str]] = None,
    h: str = "gpu.small",
) -> specs.AppDef:
    """Train.

    Args:
        args: further arguments
        model: which
        lr: how fast
        epochs: how long
        fast: whether
        tags: names
        sizes: numbers
        env: variables
        h: host
    """
    values = [model, repr(lr), repr(epochs), repr(fast), repr(tags), repr(sizes), *args]
    role = specs.Role("r", "i", entrypoint="e", args=values, env=env or {})
    role.resource = specs.resource(h=h)
    return specs.AppDef(NAME, [role])
'''
OWN_LINES: Final = [
    ["--model", "m"],
    ["--model=m", "--lr", "1", "--epochs=7", "--fast", "True", "--", "--x", "y"],
    ["--model", "m", "--tags", "a, b", "--sizes", "1,2", "--env", "A=1,2,B=3", "x", "--y"],
    ["--model", "m", "--tags", "", "-h", "cpu.nano"],
]
REGISTERED: Final = '''\
from torchx.specs import AppDef, Resource, Role


def trainer(*args: str, lr: float) -> AppDef:
    """Train."""
    return AppDef("t", [Role("r", "i", entrypoint="e", args=[str(lr), *args])])


def fails() -> AppDef:
    """Fail."""
    raise ValueError("out of luck")


def big() -> Resource:
    return Resource(cpu=7, gpu=7, memMB=7000)
'''
ENTRY_POINTS: Final = """\
[torchx.components]
my_team = my_team_components

[torchx.named_resources]
team.big = my_team_components:big
cpu.micro = my_team_components:big
"""


@pytest.fixture(scope="module", params=[".venv-torchx", ".venv-torchx-0.7"])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401 - JSON
    """Return what a process with one of TorchX's versions found."""
    folder = tmp_path_factory.mktemp("user")
    own = folder / "own"
    own.mkdir()
    own.joinpath("mine.py").write_text(OWN_FILE)
    own.joinpath("mine.json").write_text(json.dumps(OWN_LINES))
    own.joinpath("beside_it.py").write_text('NAME = "own"\n')
    folder.joinpath("my_team_components.py").write_text(REGISTERED)
    info = folder / "my_team-1.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: my-team\nVersion: 1\n")
    info.joinpath("entry_points.txt").write_text(ENTRY_POINTS)
    sites = [*(ROOT / request.param).glob("lib/python3*/site-packages")]
    assert 1 == len(sites), f"no {request.param}: `make test` makes it"
    ran = subprocess.run(
        [sys.executable, HERE / "torchx_objects.py", sites[0], folder, own / "mine.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == ran.returncode, ran.stderr
    return {**json.loads(ran.stdout.splitlines()[-1]), "newer": "0.7" not in request.param}


def test_no_field_is_lost(answers: Any) -> None:  # noqa: ANN401 - JSON
    """Our app has every field of TorchX's, macros included, and TorchX's is not changed."""
    role = Role(
        name="trainer",
        image="i",
        min_replicas=1,
        entrypoint="python",
        args=["train.py", "--id", "${app_id}", "${replica_id}"],
        env={"A": "b", "R": "${rank0_env}", "I": "${img_root}"},
        num_replicas=3,
        max_retries=2,
        retry_policy=RetryPolicy.REPLICA,
        resource=Resource(
            cpu=1,
            gpu=2,
            memMB=300,
            capabilities={"a": [1]},
            devices={"vpc.amazonaws.com/efa": 1},
            tags={"t": True} if answers["newer"] else {},
        ),
        port_map={"p": 1234},
        metadata={"local_docker": {"k": [1, {"l": None}]}},
        mounts=[
            BindMount("/a", "/b", read_only=True),
            VolumeMount("v", "/c", read_only=True),
            DeviceMount("/dev/d", "/dev/e", "r"),
        ],
        workspace=Workspace({"code": "", "data": "in"}) if answers["newer"] else None,
    )

    assert to_dict(AppDef("app", [role], {"x": "y"})) == answers["whole"]
    assert answers["unchanged"]


def test_defaults_are_the_same(answers: Any) -> None:  # noqa: ANN401 - JSON
    """A field at TorchX's default gets our default, and a subclass's own default is kept."""
    assert answers["least_ours"] == answers["least"]
    assert 4 == answers["subclass"]["roles"][0]["num_replicas"]


def test_unsupported_fields_are_rejected(answers: Any) -> None:  # noqa: ANN401 - JSON
    """One error lists the path of every unsupported field, calls none, and shows no secret."""
    found = {where: (what, fix) for where, what, fix in answers["refused"]["problems"]}

    assert "app 'n'" == answers["refused"]["subject"]
    assert {
        "roles[1].pre_proc",
        "roles[1].overrides" if answers["newer"] else "roles[1].base_image",
        "roles[1].queue",
        "roles[1].env['TOKEN']",
    } == found.keys()
    if answers["newer"]:
        assert "set the overridden fields directly" == found["roles[1].overrides"][1]
    assert "it changes TorchX's own launch request" in found["roles[1].pre_proc"][0]
    assert "12345" not in json.dumps(answers["refused"])


def test_wrong_types_are_rejected(answers: Any) -> None:  # noqa: ANN401 - JSON
    """A role or mount of the wrong type is an error here, though TorchX accepts it."""
    assert ["roles[0]", "roles[1].mounts[0]"] == [
        where for where, _, _ in answers["nonsense"]["problems"]
    ]


def test_scheduler_takes_it(answers: Any) -> None:  # noqa: ANN401 - JSON
    """The scheduler accepts TorchX's app like our own, with and without a workspace."""
    theirs, ours = answers["plan"]

    assert ours == theirs
    assert ["i", "i"] == answers["launched"][:2]
    assert answers["launched"][2].startswith("airflow-torchx/workspace:")


def test_named_resources_are_torchxs(answers: Any) -> None:  # noqa: ANN401 - JSON
    """TorchX's named resources, in any case, replace our built-in ones."""
    named = answers["named"]

    assert 8 == named["aws_p4d.24xlarge"]["gpu"]
    assert {"vpc.amazonaws.com/efa": 4} == named["aws_p4d.24xlarge"]["devices"]
    assert 2 == named["AWS_T3.Medium"]["cpu"]
    assert {"torchx/named_resources.name": "aws_t3.medium"} == named["AWS_T3.Medium"]["tags"]
    assert (7, 7, 7000) == tuple(named["team.big"][key] for key in ("cpu", "gpu", "memMB"))
    assert 7 == named["cpu.micro"]["cpu"]
    assert (8, 1, 32768) == tuple(named["gpu.small"][key] for key in ("cpu", "gpu", "memMB"))
    assert -1 == named["NULL"]["cpu"]
    assert "unknown named resource 'team.bit'" == answers["no_name"]["what"]
    assert "Did you mean 'team.big'?" == answers["no_name"]["fix"]


def test_registered_components(answers: Any) -> None:  # noqa: ANN401 - JSON
    """Registered components are found after ours; the prefix torchx: selects TorchX's."""
    expected = to_dict(AppDef("t", [Role("r", "i", entrypoint="e", args=["0.5", "x"])]))

    assert [expected, expected] == answers["registered"]
    assert answers["ours_wins"]
    assert "unknown component 'my_team.trainers'" == answers["not_registered"]["what"]
    assert "Did you mean 'my_team.trainer'?" in answers["not_registered"]["fix"]
    # TorchX drops its own components once others are registered.
    assert "unknown component 'torchx:utils.echo'" == answers["not_there"]["what"]


def test_a_component_that_fails(answers: Any) -> None:  # noqa: ANN401 - JSON
    """The error shows the component's exception, its line and its usage."""
    error = answers["fails"]

    assert "component 'my_team.fails' failed: ValueError: out of luck" in error["what"]
    assert "my_team_components.py, line 11" in error["what"]
    assert "usage: my_team.fails" == error["fix"]


def test_own_file_with_torchxs_types(answers: Any) -> None:  # noqa: ANN401 - JSON
    """Our parser and TorchX's call a user's component with the same values."""
    assert len(OWN_LINES) == len(answers["lines"])
    for ours, theirs in answers["lines"]:
        assert theirs == ours


def test_modules_of_torchxs_paths(answers: Any) -> None:  # noqa: ANN401 - JSON
    """Every name that a module of TorchX's path has is one of TorchX's."""
    newer = [] if answers["newer"] else ["specs.api.Workspace"]

    assert newer == answers["unknown_to_torchx"]


def test_members_of_torchxs_types(answers: Any) -> None:  # noqa: ANN401 - JSON
    """Members that the nightly's types have give the same answers in ours."""
    assert (2 if answers["newer"] else 0) == len(answers["members"])
    if answers["newer"]:
        theirs, ours = answers["members"]
        assert theirs == ours


def test_printed_component_of_torchx(answers: Any) -> None:  # noqa: ANN401 - JSON
    """The printed source of a component with TorchX's types builds the same app."""
    before, after = answers["printed"]

    assert before == after
