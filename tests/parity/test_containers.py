"""What we launch is what TorchX launches: container by container, field by field."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan import run_opts
from airflow_torchx.schedulers import api as schedulers_api
from airflow_torchx.schedulers import docker_scheduler
from airflow_torchx.specs import AppDef, BindMount, DeviceMount, Resource, Role, VolumeMount, api
from airflow_torchx.workspace import docker_workspace
from tests import pages
from tests.conftest import do_without, require_docker
from tests.parity.comparison import Difference, Pair, matches
from tests.parity.corpus import DOCKER_CONFIG, ENVIRON, Given, corpus
from tests.parity.intended import INTENDED, OF_EACH_CONTAINER, REFUSED
from tests.parity.two_sides import TwoSides, launch_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# One of the cases makes a workspace image.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(300), pytest.mark.xdist_group("images")]

PYTHON: Final = Path(__file__).parents[2] / ".venv-torchx/bin/python"
CASES: Final = corpus(Given())
#: Fields of TorchX's types that are not ours: values that Python code computes when they are read.
NOT_OURS: Final = {"overrides"}
#: What an inspect tells of a container that was only created.
AS_PLANNED: Final = ("Name", "Path", "Args", "Image", "Config.*", "HostConfig.*", "Mounts.*")


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> TwoSides:
    """Return what became of the corpus on both sides."""
    require_docker().close()
    if not PYTHON.exists():
        do_without("no .venv-torchx: run `make .venv-torchx/.installed`")
    folder = tmp_path_factory.mktemp("docker")
    folder.joinpath("config.json").write_text(json.dumps(DOCKER_CONFIG))
    with pytest.MonkeyPatch.context() as environ:
        for name, value in {**ENVIRON, "DOCKER_CONFIG": str(folder)}.items():
            environ.setenv(name, value)
        return launch_all(PYTHON, tmp_path_factory.mktemp("parity"))


@pytest.mark.parametrize("name", sorted(CASES.keys() - REFUSED.keys()))
def test_containers_are_equal(sides: TwoSides, name: str) -> None:
    """Our containers equal TorchX's, but for the intended differences."""
    pairs = sides.pairs[name]

    assert ("", "") == (sides.theirs[name].refused, sides.ours[name].refused)
    assert [] == [difference for pair in pairs for difference in unintended(pair)]
    assert sum(role.num_replicas for role in CASES[name].app.roles) == len(pairs)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_run_is_refused(sides: TwoSides, name: str) -> None:
    """An app that cannot run is refused by both sides, or by one for a listed reason."""
    expected, theirs, ours = REFUSED[name], sides.theirs[name], sides.ours[name]

    for pattern, side in ((expected.torchx, theirs), (expected.ours, ours)):
        assert (pattern is None) == bool(side.containers)
        assert re.search(pattern or "^$", side.refused)
    assert bool(expected.why) == bool(theirs.containers or ours.containers)


@pytest.mark.parametrize("name", INTENDED)
def test_every_intended_difference_is_met(sides: TwoSides, name: str) -> None:
    """Every intended difference on the list still occurs."""
    pairs = (pair for case in CASES for pair in sides.pairs[case])

    assert any(INTENDED[name].covers(pair, each) for pair in pairs for each in pair.differences())


@pytest.mark.parametrize("pattern", OF_EACH_CONTAINER)
def test_what_is_not_compared_is_there(sides: TwoSides, pattern: str) -> None:
    """Every field that is not compared is one that Docker shows."""
    pairs = (pair for case in CASES for pair in sides.pairs[case])

    assert any(matches(path, [pattern]) for pair in pairs for path in pair.ours)


def test_whatever_changes_is_seen(sides: TwoSides) -> None:
    """A change of any fact of ours is seen, and passes for no intended difference."""
    pair = sides.pairs["everything"][0]
    paths = {path for path in pair.ours if not matches(path, OF_EACH_CONTAINER)}

    unseen = {path for path in paths if path not in seen(pair, path)}

    assert {
        path for path in paths if path.startswith(f"Config.Labels.{labels.OWN_PREFIX}")
    } == unseen
    assert {"HostConfig.ShmSize", "Config.Env.TORCHX_RANK0_HOST", "Config.Cmd"} <= paths


def seen(pair: Pair, path: str) -> set[str]:
    """Return the paths at which a pair differs, and should not, with one fact of ours changed."""
    value = pair.ours[path]
    changed = [*value, "x"] if isinstance(value, list) else value + type(value)(1)
    return {found for found, _, _ in unintended(replace(pair, ours={**pair.ours, path: changed}))}


@pytest.mark.parametrize("kind", [AppDef, Role, Resource])
def test_the_corpus_says_all_that_can_be_said(sides: TwoSides, kind: type[Any]) -> None:
    """Some case gives each field of TorchX's types a value of its own."""
    specs = [spec for case in CASES.values() for spec in parts(case.app) if isinstance(spec, kind)]
    values = {
        field.name: {repr(getattr(spec, field.name)) for spec in specs} for field in fields(kind)
    }

    assert set(sides.vocabulary[kind.__name__]) - NOT_OURS == values.keys()
    assert [] == [name for name, said in values.items() if len(said) < 2]


def test_the_corpus_gives_every_option_and_mount(sides: TwoSides) -> None:
    """Some case uses each run option of TorchX's Docker scheduler and each kind of mount."""
    options = {name for case in CASES.values() for name in case.options}
    mounts = {type(spec) for case in CASES.values() for spec in parts(case.app)}

    assert set(sides.vocabulary["options"]) == options
    assert {BindMount, VolumeMount, DeviceMount} <= mounts
    assert len(CASES) >= 60


def test_members_of_classes(sides: TwoSides) -> None:
    """Our classes have the public members of TorchX's, except those of a table of the docs."""
    page = (pages.ROOT / "docs" / "compatibility.md").read_text()
    rows = re.findall(
        r"^\| (.*) \| (.*) \|$", page.split("except these:")[1].split("Three")[0], re.MULTILINE
    )
    excepted = {
        (name, member)
        for classes, members in rows
        for name in re.findall(r"`(\w+)`", classes)
        for member in re.findall(r"`(\w+)`", members.partition(":")[0])
    }
    modules = (api, run_opts, schedulers_api, docker_scheduler, docker_workspace)
    ours = {name: getattr(m, name) for m in modules for name in sides.members if hasattr(m, name)}
    members = {
        name: {*dir(one), *getattr(one, "__dataclass_fields__", ()), *one.__annotations__}
        for name, one in ours.items()
    }

    assert sides.members.keys() == ours.keys()
    assert {name for name, _ in excepted} <= ours.keys()
    assert [] == [(name, member) for name, member in excepted if member in members[name]]
    assert (
        set()
        == {
            (name, member)
            for name, theirs in sides.members.items()
            for member in theirs
            if member not in members[name]
        }
        - excepted
    )


def parts(app: AppDef) -> Iterator[object]:
    """Yield an app and all that it is made of."""
    yield app
    for role in app.roles:
        yield from (role, role.resource, *role.mounts)


@pytest.mark.parametrize("side", ["theirs", "ours"])
def test_a_start_changes_nothing_that_was_planned(sides: TwoSides, side: str) -> None:
    """A start changes no planned fact, so containers that were only created may be compared."""
    outcomes = getattr(sides, side)
    created = outcomes["nearly everything"].containers
    started = outcomes["nearly everything, started"].containers

    assert {"created"} == {one["State.Status"] for one in created.values()}
    assert {"running"} == {one["State.Status"] for one in started.values()}
    assert {replica: planned(one) for replica, one in created.items()} == {
        replica: planned(one) for replica, one in started.items()
    }


def planned(container: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that were there before a start, but for the word of the launch."""
    launch = f"Config.Labels.{labels.LAUNCH_ID}"
    return {
        path: value
        for path, value in container.items()
        if matches(path, AS_PLANNED) and path != launch
    }


def unintended(pair: Pair) -> Iterator[Difference]:
    """Yield the unintended differences of a pair."""
    for difference in pair.differences():
        if not matches(difference.path, OF_EACH_CONTAINER) and not any(
            intended.covers(pair, difference) for intended in INTENDED.values()
        ):
            yield difference
