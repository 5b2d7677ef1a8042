"""The wheel, in an environment of its own with the lowest versions that it admits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from filelock import FileLock
from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import BUSYBOX, do_without

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.core.engine.protocol import Engine

pytestmark = pytest.mark.timeout(300)

ROOT: Final = Path(__file__).parents[2]
#: `make` has installed the lowest versions.
ENVIRONMENT: Final = ROOT / ".venv-lowest"
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: Imported only where the library is installed that it is about.
_OPTIONAL: Final = "airflow_torchx.task.lineage_facets"
_IMPORT_ALL: Final = f"""\
import importlib, pkgutil
import airflow_torchx

for module in pkgutil.walk_packages(airflow_torchx.__path__, "airflow_torchx."):
    if module.name != "{_OPTIONAL}":
        importlib.import_module(module.name)
print(airflow_torchx.__file__)
"""
#: What a worker imports, then what an API server shows of the page.
_SHOW_THE_PAGE: Final = """\
import json, re, sys
import airflow.sdk, airflow.plugins_manager
before = set(sys.modules)
import airflow_torchx.operators, airflow_torchx.triggers, airflow_torchx.ui.plugin
late = {name.partition(".")[0] for name in set(sys.modules) - before}
from airflow.plugins_manager import _get_plugins, _get_ui_plugins, get_fastapi_plugins
from starlette.testclient import TestClient

_, errors = _get_plugins()
entries = [app for app in _get_ui_plugins()[1] if app["name"] == "TorchX"]
[served] = [app for app in get_fastapi_plugins()[0] if app["name"] == "TorchX"]
client, found = TestClient(served["app"]), {}
keys = "bundle_url", "icon", "icon_dark_mode"
files = [entry[key].partition("torchx/")[2] for entry in entries for key in keys]
while files:
    path = files.pop().partition("?")[0]
    if path not in found:
        answer = client.get(f"/{path}")
        found[path] = answer.status_code
        imported = re.findall(r'(?:from|import) "\\./([^"]+)"', answer.text)
        files += [f"static/{name}" for name in imported]
print(json.dumps({
    "errors": errors,
    "web": sorted(late & {"fastapi", "starlette", "uvicorn"}),
    "destinations": [(app["destination"], app["url_route"]) for app in entries],
    "served": found,
}))
"""
_RUN_AN_APP: Final = """\
import sys
from airflow_torchx.schedulers.docker_scheduler import create_scheduler
from airflow_torchx.specs import AppDef, Resource, Role

name, image = sys.argv[1:]
args = ["-c", "echo hello from $TORCHX_RANK0_HOST; sleep 1"]
resource = Resource(cpu=0, gpu=0, memMB=64)
role = Role("sh", image, entrypoint="sh", args=args, num_replicas=2, resource=resource)
with create_scheduler("lowest") as scheduler:
    app_id = scheduler.submit(AppDef(name, [role]), {"pull_policy": "never"})
    lines = list(scheduler.log_iter(app_id, "sh", 1, should_tail=True))
    print(scheduler.wait(app_id).state, *lines)
    scheduler.delete(app_id)
"""


class Lowest(NamedTuple):
    """An environment with the lowest versions, and the wheel in it.

    Args:
        wheel: the wheel.
        bin: folder of its programs.
        home: an empty folder to work in.
    """

    wheel: Path
    bin: Path
    home: Path

    def run(self, program: str, *words: str) -> str:
        """Run a program of the environment, away from the checkout, and return its output."""
        own = {"AIRFLOW_HOME": str(self.home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        # A developer's path may lead to the checkout.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        ran = subprocess.run(
            [self.bin / program, *words],
            check=False,
            cwd=self.home,
            env=env | own,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout


def floors() -> dict[str, Version]:
    """Return the lowest version of each dependency by its name."""
    found = {}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        (floor,) = [part.version for part in requirement.specifier if part.operator == ">="]
        found[requirement.name] = Version(floor)
    return found


@pytest.fixture(scope="module")
def lowest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lowest]:
    """Return the environment with the wheel in it, for this test alone."""
    if not (ENVIRONMENT / ".installed").exists():
        do_without(f"no {ENVIRONMENT.name}: run `make {ENVIRONMENT.name}/.installed`")
    with FileLock(ENVIRONMENT / ".lock"):
        built = tmp_path_factory.mktemp("wheel")
        _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", built, ROOT)
        (wheel,) = built.glob("*.whl")
        install = ["-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]
        _run(ENVIRONMENT / "bin" / "python", *install, wheel)
        yield Lowest(wheel, ENVIRONMENT / "bin", tmp_path_factory.mktemp("home"))


def _run(*command: str | Path) -> None:
    ran = subprocess.run(
        command,
        check=False,
        env={**os.environ, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, f"{[*map(str, command)]}\n{ran.stdout[-5000:]}{ran.stderr[-5000:]}"


def test_the_wheel_has_the_package_and_nothing_else(lowest: Lowest) -> None:
    """The wheel has the package with types, licence and entry points, and no tests."""
    info = f"airflow_torchx-{lowest.wheel.name.split('-')[1]}.dist-info"
    with zipfile.ZipFile(lowest.wheel) as wheel:
        names = set(wheel.namelist())
        entry_points = wheel.read(f"{info}/entry_points.txt").decode()

    assert {"airflow_torchx", info} == {name.partition("/")[0] for name in names}
    assert names >= {"airflow_torchx/py.typed", f"{info}/licenses/LICENSE"}
    assert "airflow-torchx = airflow_torchx.cli:main" in entry_points
    assert "provider_info = airflow_torchx.provider:get_provider_info" in entry_points


def test_the_lowest_versions_go_together(lowest: Lowest) -> None:
    """Every floor is one that Airflow's own lowest version can live with."""
    lowest.run("pip", "check")
    listed = json.loads(lowest.run("pip", "list", "--format=json"))
    versions = {row["name"].lower(): Version(row["version"]) for row in listed}

    assert floors() == {name: versions[name] for name in floors()}


def test_airflow_lists_it(lowest: Lowest) -> None:
    """Airflow's discovery finds the provider by its entry point, and its connection type."""
    providers = json.loads(lowest.run("airflow", "providers", "list", "--output=json"))
    hooks = json.loads(lowest.run("airflow", "providers", "hooks", "--output=json"))

    assert "airflow-torchx" in {row["package_name"] for row in providers}
    assert "airflow_torchx.hooks.TorchXDockerHook" in {row["class"] for row in hooks}


def test_airflow_lists_the_page(lowest: Lowest) -> None:
    """A fresh Airflow has the page's two entries, and serves each file that they lead to.

    Its plugin manager has no error. A worker that imports the operators loads no web framework.
    """
    shown = json.loads(lowest.run("python", "-c", _SHOW_THE_PAGE).splitlines()[-1])
    static = ROOT / "airflow_torchx/ui/static"
    sources = {path.name for kind in ("*.js", "*.svg") for path in static.glob(kind)}

    assert ({}, []) == (shown["errors"], shown["web"])
    assert [["nav", "torchx"], ["task_instance", "torchx-app"]] == shown["destinations"]
    assert {200} == set(shown["served"].values())
    assert {f"static/{name}" for name in sources} == set(shown["served"])


def test_the_page_is_installed_without_a_build(lowest: Lowest) -> None:
    """The wheel has the files of the page as they are in the checkout, so no install needs Node."""
    folder = "airflow_torchx/ui/"
    sources = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(lowest.wheel) as wheel:
        packed = {name: wheel.read(name) for name in wheel.namelist() if name.startswith(folder)}

    assert sources == packed


def test_its_command_answers(lowest: Lowest) -> None:
    """The installed command answers by its own name and among Airflow's commands."""
    assert lowest.run("airflow-torchx", "--version").startswith("airflow-torchx ")
    assert "dist.ddp" in lowest.run("airflow", "torchx", "builtins")


def test_every_module_imports(lowest: Lowest) -> None:
    """Every module can be imported from the wheel."""
    place = lowest.run("python", "-c", _IMPORT_ALL).splitlines()[-1]

    assert Path(place).is_relative_to(lowest.bin.parent)


@pytest.mark.docker
def test_it_runs_an_app(lowest: Lowest, docker_engine: Engine, app_id: str) -> None:
    """The installed wheel launches, logs, waits for and deletes an app."""
    assert docker_engine.find_image(BUSYBOX)

    output = lowest.run("python", "-c", _RUN_AN_APP, app_id, BUSYBOX)

    assert output.startswith(f"SUCCEEDED hello from {app_id}")
