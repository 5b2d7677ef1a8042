"""The image that container/build.sh makes of a uv project, and container/push.sh pushes."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from typing import TYPE_CHECKING, Final

import pytest

from tests import pages
from tests.conftest import require_docker
from tests.integration.uv_project import (
    BASE,
    OFFLINE,
    ROOT,
    Index,
    Project,
    buildkit_path,
    docker,
    make_uv_image,
    remove_images,
    script,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.registry import Registry

TORCHRUN: Final = ("torchrun", "--standalone", "-m", "trainer")
PYTHON: Final = ("python", "-m", "trainer")


@pytest.fixture(scope="module")
def uv_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return an image that holds uv."""
    require_docker().close()
    name = f"airflow-torchx/uv:{uuid.uuid4().hex}"
    make_uv_image(tmp_path_factory.mktemp("uv"), name)

    yield name

    remove_images(name)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """Return an index with `tiny`, and with a PyTorch that must not be installed."""
    require_docker().close()
    folder = tmp_path / "index"
    folder.mkdir()
    index = Index(folder)
    ask = "from importlib.metadata import version; print(version('torch').partition('+')[0])"
    torch = docker("run", "--rm", *OFFLINE, BASE, "python3", "-c", ask)
    for version in (torch, "99.0"):
        index.add("torch", version, "raise ImportError('this is not the base image')", "cudart")
    index.add("cudart", "1.0", "")
    index.add("tiny", "1.0", "VERSION = '1.0'")
    index.add("tiny", "1.1", "VERSION = '1.1'")

    yield index

    index.close()


@pytest.fixture
def project(tmp_path: Path, app_id: str, uv_image: str, index: Index) -> Iterator[Project]:
    """Return a project without a lock; what is built of it is removed at the end."""
    variables = {
        "AIRFLOW_TORCHX_BASE_IMAGE": BASE,
        "AIRFLOW_TORCHX_UV_IMAGE": uv_image,
        "AIRFLOW_TORCHX_NETWORK": "host",
        "UV_DEFAULT_INDEX": index.url,
        # A build that fails leaves nothing behind with BuildKit.
        "DOCKER_BUILDKIT": "1",
        "PATH": buildkit_path(),
    }
    project = Project(tmp_path / "my project", f"{app_id}:local", variables)

    yield project

    project.remove()


@pytest.fixture
def others_base(app_id: str) -> Iterator[str]:
    """Return a base whose user is not root; what is built on it is to be removed before it."""
    name = f"{app_id}-base:local"
    require_docker().close()
    container = docker("create", BASE)
    docker("commit", "--change", "USER nobody", container, name)
    docker("rm", container)

    yield name

    remove_images(name)


@pytest.fixture(params=["0", "1"], ids=["classic", "buildkit"])
def builder(request: pytest.FixtureRequest, project: Project) -> None:
    """Let a project be built without, and then with BuildKit."""
    project.variables["DOCKER_BUILDKIT"] = request.param


@pytest.mark.docker
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("builder")
def test_dependencies_come_from_the_cache_until_they_change(project: Project, index: Index) -> None:
    """An edit of the code runs and installs nothing; an edit of a dependency installs it."""
    first = project.layers()
    said_first = project.run(*TORCHRUN)
    after_first = index.downloads.copy()

    project.edit("src/trainer/__main__.py", "epoch 1", "epoch 2")
    second = project.layers()
    said_second = project.run(*PYTHON)
    after_second = index.downloads.copy()

    project.edit("pyproject.toml", "tiny==1.0", "tiny==1.1")
    (project.folder / "uv.lock").unlink()
    third = project.layers()

    assert "epoch 1 1.0 2.0 1" == said_first
    assert "epoch 2 1.0 2.0 None" == said_second
    assert "epoch 2 1.1 2.0 None" == project.run(*PYTHON)
    # The last two layers are the code and the project, the one before them the dependencies.
    assert first[:-2] == second[:-2]
    assert second[-3] != third[-3]
    assert first[-2] != second[-2]
    assert ["tiny-1.0-py3-none-any.whl"] == after_first == after_second
    assert ["tiny-1.0-py3-none-any.whl", "tiny-1.1-py3-none-any.whl"] == index.downloads


@pytest.mark.docker
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("builder")
def test_the_user_of_the_base_is_kept(others_base: str, project: Project) -> None:
    """The base's user stays, can write where it starts, and has the project installed."""
    project.variables["AIRFLOW_TORCHX_BASE_IMAGE"] = others_base

    project.layers()

    said = project.run("sh", "-ec", "touch here src/here; id -un; python -m trainer")
    assert "nobody\nepoch 1 1.0 2.0 None" == said


@pytest.mark.docker
def test_what_no_image_needs_is_left_out(project: Project) -> None:
    """The image leaves out what no image needs, or what the project's .dockerignore says."""
    (project.folder / ".venv").mkdir()
    (project.folder / ".venv/pyvenv.cfg").touch()
    (project.folder / ".env").touch()
    (project.folder / "data").mkdir()
    (project.folder / "data/big").touch()

    project.layers()
    without = project.run("ls", "-A")
    (project.folder / ".dockerignore").write_text("data\n.dockerignore\n")
    project.layers()

    assert ["data", "pyproject.toml", "src", "uv.lock"] == without.split()
    with_rules = project.run("ls", "-A")
    assert [".env", ".venv", "pyproject.toml", "src", "uv.lock"] == with_rules.split()


@pytest.mark.docker
def test_a_lock_is_made_once_and_named(project: Project) -> None:
    """A new lock file is made once and reported, because it belongs into version control."""
    lock = project.folder / "uv.lock"

    first = project.build()
    locked = lock.read_bytes()
    second = project.build()

    assert f"Created {lock}. Commit it" in first.stdout
    assert "Created" not in second.stdout
    assert locked == lock.read_bytes()


@pytest.mark.docker
def test_a_lock_that_is_out_of_date_is_refused(project: Project) -> None:
    """An outdated lock file is refused with what to do about it."""
    project.layers()
    project.edit("pyproject.toml", "tiny==1.0", "tiny==1.1")

    ran = project.build()

    assert ran.returncode == 1
    assert "run `uv lock`" in ran.stderr


@pytest.mark.docker
def test_a_lock_with_another_pytorch_than_the_bases_is_refused(project: Project) -> None:
    """A lock file with another PyTorch than the base's is refused: it is not what would run."""
    project.layers()
    lock = project.folder / "uv.lock"
    text = lock.read_text()
    (version,) = re.findall(r'name = "torch"\nversion = "(.*)"', text)
    lock.write_text(text.replace(version, "99.0"))

    ran = project.build()

    assert ran.returncode == 1
    assert "uv.lock has torch==99.0 but the base has torch==" in ran.stderr


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_the_commands_of_the_pages_build_and_push(
    project: Project, registry: Registry, app_id: str, tmp_path: Path
) -> None:
    """The commands push to a registry after a login; without one, the error names the command."""
    block = pages.block_with("container/build.sh")
    repo = f"{registry.host}/{app_id}"
    block = block.replace("~/my-project", f"'{project.folder}'")
    block = block.replace("registry.example.com/me/trainer", repo)
    assert repo in block
    env = project.variables | {"DOCKER_CONFIG": str(tmp_path / "config")}
    command = ["bash", "-euc", block]
    login = ["docker", "login", "--username", registry.login.username, "--password-stdin"]
    password = registry.login.password.encode()

    stranger = subprocess.run(command, check=False, cwd=ROOT, env=env, capture_output=True)
    subprocess.run(
        [*login, registry.host], check=True, env=env, input=password, capture_output=True
    )
    user = subprocess.run(command, check=False, cwd=ROOT, env=env, capture_output=True)
    project.build()

    try:
        assert (1, 0) == (stranger.returncode, user.returncode), user.stderr
        assert f"`docker login {registry.host}`".encode() in stranger.stderr
        assert f"Pushed {repo}:1.0.".encode() in user.stdout
    finally:
        remove_images(f"{repo}:1.0")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["me/Trainer", "1.0"], "'me/Trainer' is not a repository"),
        (["me/trainer:1.0", "1.0"], "'me/trainer:1.0' is not a repository"),
        (["https://example.com/me", "1.0"], "'https://example.com/me' is not a repository"),
        (["", "1.0"], "'' is not a repository"),
        (["me/trainer", ""], "'' is not a tag"),
        (["me/trainer", "-1"], "'-1' is not a tag"),
        (["me/trainer"], "usage: container/push.sh REPO VERSION; got 1 arguments"),
    ],
)
def test_push_rejects_invalid_names(args: list[str], message: str) -> None:
    """A repository or tag that Docker rejects is an error before the Engine is used."""
    ran = script("push.sh", *args, env=dict(os.environ))

    assert (1, message) == (ran.returncode, ran.stderr[: len(message)])


@pytest.mark.docker
def test_push_rejects_a_missing_image(app_id: str) -> None:
    """The error of a missing image names the command that builds it."""
    require_docker().close()
    env = {**os.environ, "AIRFLOW_TORCHX_IMAGE": app_id}

    ran = script("push.sh", "localhost:5000/me/trainer", "1.0", env=env)

    assert ran.returncode == 1
    assert f"no image {app_id}: build it first with container/build.sh" in ran.stderr


@pytest.mark.parametrize(
    ("args", "variables", "message"),
    [
        (["/nowhere"], {}, "no such folder: /nowhere"),
        (["/"], {}, "/ has no pyproject.toml: create a uv project there"),
        (["a", "b"], {}, "usage: container/build.sh [CONTEXT]; got 2 arguments"),
        ([], {"UV_DEFAULT_INDEX": "https://me:secret@host/"}, "UV_DEFAULT_INDEX contains a pass"),
    ],
)
def test_build_rejects_invalid_arguments(
    args: list[str], variables: dict[str, str], message: str
) -> None:
    """Invalid arguments are errors before the Engine is used, and show no secret."""
    ran = script("build.sh", *args, env={**os.environ, **variables})

    assert (1, message) == (ran.returncode, ran.stderr[: len(message)])
    assert "secret" not in ran.stdout + ran.stderr
