"""Fixtures of all tests: engines, and a name that everything one test makes carries."""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import re
import signal
import sys
import uuid
from typing import TYPE_CHECKING, Final, NoReturn

import pytest
from hypothesis import HealthCheck, settings

import airflow_torchx
from airflow_torchx.concurrency import host_lock
from airflow_torchx.core.engine import labels
from airflow_torchx.errors import EngineError, EngineUnreachableError
from airflow_torchx.testing import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.docker_engine import DockerEngine

#: The swarm is one for tests of several folders.
pytest_plugins = ["tests.swarm.fixtures"]

#: The image of the tests; `make images` makes it.
BUSYBOX: Final = "airflow-torchx/busybox:local"


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # In the background of a shell it is ignored, also by what the tests start to interrupt it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # So it is under nohup. A handler, unlike SIG_IGN, is not inherited by what the tests start.
    signal.signal(signal.SIGHUP, lambda *_: None)

# Hypothesis fails a test that is slow, which a busy machine makes of any.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

#: Lanes, where several workers run the tests; all tests of one are run by one worker. One kills an
#: Airflow of its own, one needs the other whole Airflow: these take longest, and come first. One
#: makes workspace images, and a test knows its own by what was not there before. One has the swarm.
_STACK: Final = "stack"
_SWARM: Final = "swarm"
_IMAGES: Final = "images"
_LONGEST: Final = ("kills", _STACK)
_IMAGE_MAKERS: Final = {"no_images_left", "workspaces"}
#: The lane of images comes after all else that may take so long. By then the whole Airflow has run
#: its tests that make images, too, which come first in its lane: they would wait for each other.
_IMAGES_AFTER_S: Final = 300.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what has all cases of the campaign of kills played."""
    what = "play all kills, those of Airflow in the order that this seed draws"
    parser.addoption("--campaign", metavar="SEED", help=what)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what came of each case of a campaign, and its seed."""
    seed = terminalreporter.config.getoption("campaign")
    if not seed:
        return
    terminalreporter.section(f"campaign, seed {seed}")
    for state in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(state):
            name = re.split(r"\[|::", report.nodeid)[-1].removesuffix("]")
            outcome = dict(report.user_properties).get("outcome", "no outcome")
            if report.when == "call" or report.failed:
                terminalreporter.write_line(f"{state:6} {name:40} {outcome}")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    """Leave out the campaign unless it is asked for, and mark what belongs to one worker."""
    if not config.getoption("campaign"):
        left_out = [item for item in items if item.get_closest_marker("campaign")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    yield
    longest_s: dict[str, float] = {}
    for item in items:
        longest_s[_group(item)] = max(longest_s.get(_group(item), 0), _timeout_s(item))
    items.sort(key=lambda item: _rank(item, longest_s[_group(item)]))


def _rank(item: pytest.Item, longest_s: float) -> tuple[bool | float, ...]:
    """Return when a test's turn comes, where the longest of its group may take ``longest_s``.

    What may take long comes first, and what is short last, so that the workers end together.
    """
    group = _group(item)
    is_late = group == _IMAGES and longest_s >= _IMAGES_AFTER_S
    longest_s = _IMAGES_AFTER_S if is_late else longest_s
    is_unit = "/unit/" in item.nodeid
    return group not in _LONGEST, is_unit, -longest_s, is_late, not _makes_images(item)


def _timeout_s(item: pytest.Item) -> float:
    """Return how long a test may take, which says of which ones it takes long."""
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark else 0.0


def _group(item: pytest.Item) -> str:
    if mark := item.get_closest_marker("xdist_group"):
        return str(mark.args[0])
    if _STACK in _fixtures(item):
        return _STACK
    if "hosts" in _fixtures(item):
        return _SWARM
    return _IMAGES if _makes_images(item) else item.nodeid.partition("::")[0]


def _makes_images(item: pytest.Item) -> bool:
    """Tell whether a test takes turns with all others that make workspace images."""
    mark = item.get_closest_marker("xdist_group")
    is_marked = mark is not None and _IMAGES in mark.args
    return is_marked or not _IMAGE_MAKERS.isdisjoint(_fixtures(item))


def _fixtures(item: pytest.Item) -> Sequence[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else ()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let the tests that make workspace images take turns, also with those of other runs.

    `no_images_left` removes all images that were not there before, and an image's name is the
    digest of its content, which two runs of a test have in common. The time for a test begins when
    its turn comes.
    """
    if not _makes_images(item) or item.get_closest_marker("docker") is None:
        return (yield)
    with host_lock.held("tests", f"{_IMAGES} {_daemon_id()}"):
        return (yield)


@functools.cache
def _daemon_id() -> str:
    from airflow_torchx.docker_engine import DockerEngine

    try:
        with DockerEngine.connect() as engine:
            return engine.info().id
    except EngineError:
        return ""


def pytest_collection_finish() -> None:
    """Import what tests would import on their way.

    Hypothesis draws from the constants of all modules that are there, and calls a test flaky whose
    data changes because one more was imported between two runs of it.
    """
    for module in pkgutil.walk_packages(airflow_torchx.__path__, "airflow_torchx."):
        is_wanted = "airflow" in sys.modules or not module.name.startswith(_FACE)
        if is_wanted and not module.name.startswith(_SERVER):
            importlib.import_module(module.name)


#: What imports Airflow, which reads its configuration then.
_FACE: Final = tuple(
    f"airflow_torchx.{name}"
    for name in ("decorators", "hooks", "operators", "sensors", "task.", "triggers")
)
#: What the API server alone imports: it takes seconds.
_SERVER: Final = "airflow_torchx.ui."


def require_docker() -> DockerEngine:
    """Return a connection to a real daemon that holds the image of the tests.

    Where there is none the test is skipped, but in CI it fails: no test may vanish there.
    """
    from airflow_torchx.docker_engine import DockerEngine

    try:
        engine = DockerEngine.connect()
        image = engine.find_image(BUSYBOX)
    except EngineUnreachableError as why:
        do_without(str(why))
    if image is None:
        engine.close()
        do_without(f"no image {BUSYBOX}: run `make images`")
    return engine


def _rows_of(engine: Engine, app_id: str) -> list[ContainerRow]:
    rows = engine.rows({labels.APP_ID: None})
    return [row for row in rows if app_id in row.labels[labels.APP_ID]]


def do_without(why: str) -> NoReturn:
    """Skip a test for want of something; in CI it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture
def app_id() -> str:
    """Return an app id that no other test has.

    What a test makes on a real daemon carries it in its app-id label, whole or as a part; a network
    that it makes is called `network_name`. All that is removed when the test ends.
    """
    return f"t{uuid.uuid4().hex[:11]}"


@pytest.fixture
def own_modules(tmp_path: Path) -> Iterator[None]:
    """Let a test load modules from its folder, and forget them afterwards."""
    before = [*sys.path]

    yield

    sys.path[:] = before
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", None)).startswith(f"{tmp_path}/"):
            del sys.modules[name]


@pytest.fixture
def network_name(app_id: str) -> str:
    """Return the name of a network that no other test has; it does not exist yet."""
    return f"{app_id}-net"


@pytest.fixture
def fake_engine() -> FakeEngine:
    """Return a fake daemon that holds the image of the tests."""
    return FakeEngine(images=[BUSYBOX])


@pytest.fixture
def docker_engine(app_id: str, network_name: str) -> Iterator[DockerEngine]:
    """Return a connection to a real daemon, on which nothing of the test is left at its end."""
    with require_docker() as engine:
        yield engine

    with require_docker() as engine:
        for row in _rows_of(engine, app_id):
            engine.remove(row.id)
        for network in engine.networks(network_name):
            engine.remove_network(network.id)

        assert [] == _rows_of(engine, app_id)
        assert () == engine.networks(network_name)


@pytest.fixture
def no_images_left(docker_engine: DockerEngine) -> Iterator[None]:
    """Take the workspace images that a test makes from the real daemon at its end."""
    before = {row.id for row in docker_engine.images.rows({labels.WORKSPACE_ID: None})}

    yield

    for row in docker_engine.images.rows({labels.WORKSPACE_ID: None}):
        for tag in () if row.id in before else row.tags:
            docker_engine.images.untag(tag)


@pytest.fixture(params=["fake", pytest.param("docker", marks=pytest.mark.docker)])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Return a fake and then a real daemon."""
    found: Engine = request.getfixturevalue(f"{request.param}_engine")
    return found
