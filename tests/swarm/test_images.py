"""Images on a swarm: built and pushed by the manager, with a login, and pulled by their digests."""

from __future__ import annotations

import logging
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.errors import InvalidAppError
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.specs import AppDef, AppState, Resource, RetryPolicy, Role, Workspace
from airflow_torchx.swarm_engine import SwarmEngine
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_torchx.docker_engine.request import Client
    from airflow_torchx.specs import DescribeAppResponse
    from tests.integration.registry import Registry
    from tests.swarm.hosts import Host, Hosts

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

#: Nodes that do not build.
_WORKERS: Final = ("node.role==worker",)


@pytest.fixture
def manager(hosts: Hosts) -> Iterator[Client]:
    """Return a client of the manager's daemon."""
    with closing(hosts[1].client) as client:
        yield client


@pytest.fixture
def repo(swarm_registry: Registry, app_id: str, hosts: Hosts) -> Iterator[str]:
    """Return a repository of the registry, whose images are on no node at the end."""
    name = f"{swarm_registry.host}/team/{app_id}"
    yield name
    for host in hosts.all:
        _forget(host, name)


def _forget(host: Host, repo: str) -> None:
    """Remove the images of a repository from a node."""
    from docker.errors import NotFound

    with closing(host.client) as client:
        for row in client.images(f"{repo}*"):
            for name in (*(row["RepoTags"] or ()), *(row["RepoDigests"] or ())):
                # With its last tag, its digest goes, too.
                with suppress(NotFound):
                    client.remove_image(name, force=True)


@pytest.fixture
def scheduler(hosts: Hosts, swarm_registry: Registry, app_id: str) -> Iterator[SwarmScheduler]:
    """Return a scheduler with a login, which uses the workers only."""
    with _connected(hosts, swarm_registry) as found:
        yield found
        for row in found.engine.rows({labels.APP_ID: None}):
            if app_id in row.labels[labels.APP_ID]:
                found.engine.remove(row.id)


@contextmanager
def _connected(hosts: Hosts, *registries: Registry) -> Iterator[SwarmScheduler]:
    endpoint = hosts.endpoint(constraints=_WORKERS)
    logins = [one.login for one in registries]
    with SwarmEngine.connect(endpoint, logins) as engine:
        yield SwarmScheduler("gpu_cluster", engine, terminal=False)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Return a workspace with a program."""
    folder = tmp_path / "code"
    folder.mkdir()
    folder.joinpath("train.sh").write_text("echo trained on ${HOSTNAME%%.*}\n")
    return folder


def _app(image: str, command: str, code: Path | None = None, **fields: object) -> AppDef:
    role = Role(
        "trainer",
        image=image,
        entrypoint="sh",
        args=["-c", command],
        num_replicas=2,
        resource=Resource(cpu=0.1, gpu=0, memMB=32),
        workspace=Workspace({str(code): ""}) if code else None,
        **fields,  # type: ignore[arg-type]
    )
    return AppDef("app", [role])


def _run(
    scheduler: SwarmScheduler, app_id: str, app: AppDef, **options: object
) -> DescribeAppResponse:
    """Run an app to its end."""
    given, context = {"stop_grace_s": 0, **options}, scheduler.new_context(app_id)
    scheduler.schedule(scheduler.submit_dryrun(app, given, context=context))
    return scheduler.wait(app_id)


def _images(manager: Client, app_id: str) -> list[str]:
    """Return what the services of an app are made of, each once."""
    found = manager.services({"label": f"{labels.APP_ID}={app_id}"})
    return sorted({one["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] for one in found})


def _publish(manager: Client, registry: Registry, image: str, ref: str) -> str:
    """Push an image of the manager's by a name, forget the name, and return the digest."""
    repo, _, tag = ref.rpartition(":")
    manager.tag(image, repo, tag)
    login = {"username": registry.login.username, "password": registry.login.password}
    assert "error" not in manager.push(repo, tag, auth_config=login)
    (digest,) = manager.inspect_image(ref)["RepoDigests"][-1:]
    manager.remove_image(ref)
    return str(digest).rpartition("@")[2]


def test_a_workspace_image(  # noqa: PLR0913, PLR0917 - fixtures
    scheduler: SwarmScheduler,
    app_id: str,
    repo: str,
    code: Path,
    manager: Client,
    hosts: Hosts,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is built and pushed once, with the login; nodes without it pull it by its digest."""
    caplog.set_level(logging.INFO)
    app = _app(BUSYBOX, "sh train.sh", code)

    with pytest.raises(InvalidAppError) as refused:
        scheduler.submit_dryrun(app)
    first = _run(scheduler, f"{app_id}-1", app, image_repo=repo)
    built = caplog.messages[:]
    caplog.clear()
    second = _run(scheduler, f"{app_id}-2", app, image_repo=repo)

    assert "its image must be in a registry, from which each node pulls it" in str(refused.value)
    assert "set image_repo to a repository that all nodes reach" in str(refused.value)
    assert [AppState.SUCCEEDED] * 2 == [first.state, second.state]
    assert [f"trained on {app_id}-1-trainer-1\n"] == list(
        scheduler.log_iter(f"{app_id}-1", "trainer", 1)
    )
    (image,) = _images(manager, f"{app_id}-1")
    name, _, digest = image.partition("@")
    assert [image] == _images(manager, f"{app_id}-2")
    assert name.startswith(f"{repo}:")
    assert digest.startswith("sha256:")
    assert any(f"pushed image {name}" in line for line in built)
    made = ("built", "adding", "pushing", "pushed")
    assert [] == [line for line in caplog.messages if line.startswith(made)]
    has_image = []
    for host in hosts.all[1:]:
        with closing(host.client) as node:
            has_image += [one for row in node.images(repo) for one in row["RepoDigests"] or ()]
    assert {f"{repo}@{digest}"} == {*has_image}


def test_a_base_that_only_a_registry_has(
    scheduler: SwarmScheduler,
    app_id: str,
    repo: str,
    code: Path,
    manager: Client,
    swarm_registry: Registry,
) -> None:
    """The manager pulls it with the login, and builds on it."""
    _publish(manager, swarm_registry, BUSYBOX, f"{repo}:base")

    app = _app(f"{repo}:base", "sh train.sh", code)
    ended = _run(scheduler, app_id, app, image_repo=f"{repo}/built")

    assert AppState.SUCCEEDED is ended.state
    (image,) = _images(manager, app_id)
    assert image.startswith(f"{repo}/built:")


def test_a_tag_that_moves(
    scheduler: SwarmScheduler,
    app_id: str,
    repo: str,
    manager: Client,
    swarm_registry: Registry,
) -> None:
    """Each replica runs the image of the launch, also after a restart; the next launch asks."""
    old = _publish(manager, swarm_registry, BUSYBOX, f"{repo}:1")
    command = '[ "$TORCHX_RESTART" = 1 ] || exit 3'
    app = _app(f"{repo}:1", command, max_retries=1, retry_policy=RetryPolicy.APPLICATION)
    given = {"stop_grace_s": 0, "constraints": ["node.hostname==box2"]}
    scheduler.schedule(
        scheduler.submit_dryrun(app, given, context=scheduler.new_context(f"{app_id}-1"))
    )
    new = _publish(manager, swarm_registry, _another_image(manager, repo), f"{repo}:1")
    ended = scheduler.wait(f"{app_id}-1")
    later = _run(scheduler, f"{app_id}-2", _app(f"{repo}:1", "true"))

    assert [AppState.SUCCEEDED] * 2 == [ended.state, later.state]
    assert old != new
    assert [f"{repo}:1@{old}"] == _images(manager, f"{app_id}-1")
    assert [f"{repo}:1@{new}"] == _images(manager, f"{app_id}-2")


def _another_image(manager: Client, repo: str) -> str:
    """Return an image with the files of that of the tests."""
    made = manager.create_container(BUSYBOX, ["true"])["Id"]
    image = manager.commit(made, repo, "new")["Id"]
    manager.remove_container(made)
    return str(image)


def test_an_image_without_a_registry(
    scheduler: SwarmScheduler, app_id: str, repo: str, manager: Client, hosts: Hosts
) -> None:
    """It runs by its id on nodes that have it; the error of the others says what to do.

    A scheduler that is kept asks at each launch which image has the name.
    """
    image = _another_image(manager, repo)

    missing = _run(scheduler, f"{app_id}-1", _app(f"{repo}:new", "true"))
    newer = _another_image(manager, repo)
    data = b"".join(manager.get_image(f"{repo}:new"))
    for host in hosts.all[1:]:
        with closing(host.client) as node:
            node.load_image(data)
    ended = _run(scheduler, f"{app_id}-2", _app(f"{repo}:new", "true"))

    assert AppState.FAILED is missing.state
    (error,) = {one.error for one in missing.roles_statuses[0].replicas if one.error}
    assert error.startswith(f"No such image: {image}; ")
    assert "push it to a registry" in error
    assert "docker load" in error
    assert AppState.SUCCEEDED is ended.state
    assert image != newer
    assert [newer] == _images(manager, f"{app_id}-2")
