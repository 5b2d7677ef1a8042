"""Fixtures of all tests: engines, and a name that everything one test makes carries."""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
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

#: Lanes, where several workers run the tests; all tests of one are run by one worker, and first, as
#: they take longest. One kills an Airflow of its own. The other makes workspace images, and a test
#: knows its own by what was not there before; or needs the other whole Airflow.
_IMAGES: Final = "images"
_LANES: Final = ("kills", _IMAGES)
_IMAGE_MAKERS: Final = {"no_images_left", "stack", "workspaces"}


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Tell what belongs to one worker: a lane, or else a module."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    yield
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> tuple[bool, ...]:
    """Return when a test's turn comes.

    Those that share a whole Airflow are together. What is short comes last, so that the workers end
    together.
    """
    return _group(item) not in _LANES, "/unit/" in item.nodeid, "stack" not in _fixtures(item)


def _group(item: pytest.Item) -> str:
    if mark := item.get_closest_marker("xdist_group"):
        return str(mark.args[0])
    makes_images = _IMAGE_MAKERS.intersection(_fixtures(item))
    return _IMAGES if makes_images else item.nodeid.partition("::")[0]


def _fixtures(item: pytest.Item) -> Sequence[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else ()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let the tests that make workspace images take turns with those of other runs on the daemon.

    `no_images_left` removes all images that were not there before, and an image's name is the
    digest of its content, which two runs of a test have in common. The time for a test begins when
    its turn comes.
    """
    if _group(item) != _IMAGES or item.get_closest_marker("docker") is None:
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
