"""How the page is registered with Airflow, and how its files are served."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest
from starlette.testclient import TestClient

from airflow_torchx import __version__
from airflow_torchx.ui.plugin import TorchXPlugin
from airflow_torchx.ui.server import STATIC

if TYPE_CHECKING:
    from pathlib import Path

#: What the plugin manager of a fresh Airflow says of our plugin.
_REGISTRATION: Final = """
import json
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
ours = [plugin for plugin in plugins if plugin.name == "torchx"]
_, react_apps = plugins_manager._get_ui_plugins()
apps, _ = plugins_manager.get_fastapi_plugins()
print(json.dumps({
    "errors": errors,
    "plugins": len(ours),
    "react_apps": [app for app in react_apps if app["name"] == "TorchX"],
    "prefixes": [app["url_prefix"] for app in apps if app["name"] == "TorchX"],
}))
"""
_LATE_IMPORTS: Final = """
import sys
import airflow.plugins_manager, airflow.sdk
before = set(sys.modules)
import airflow_torchx.ui.plugin
late = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
print(late)
"""


@pytest.fixture
def client() -> TestClient:
    """Return a client of the page's server as Airflow mounts it."""
    return TestClient(TorchXPlugin.fastapi_apps[0]["app"])


def _run(code: str, home: Path) -> str:
    """Return the last line that a fresh process prints."""
    env = {"AIRFLOW_HOME": str(home), "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    ran = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), **env},
    )
    return ran.stdout.splitlines()[-1]


def test_airflow_finds_the_page_by_the_entry_point(tmp_path: Path) -> None:
    """Both destinations have one name and addresses that are relative to Airflow's base."""
    found = json.loads(_run(_REGISTRATION, tmp_path))

    assert {} == found["errors"]
    assert 1 == found["plugins"]
    assert ["/torchx"] == found["prefixes"]
    assert [("nav", "torchx"), ("task_instance", "torchx-app")] == [
        (app["destination"], app["url_route"]) for app in found["react_apps"]
    ]
    assert {f"torchx/static/shell.js?v={__version__}"} == {
        app["bundle_url"] for app in found["react_apps"]
    }


def test_a_process_that_is_not_the_api_server_loads_no_web_framework(tmp_path: Path) -> None:
    """A scheduler, a worker and a DAG processor import the plugin, which holds only data."""
    assert "['airflow_torchx']" == _run(_LATE_IMPORTS, tmp_path)


@pytest.mark.parametrize(
    # Types for the checks are files of the folder that no page asks for.
    "file",
    sorted(path.name for path in STATIC.iterdir() if not path.name.endswith(".d.ts")),
)
def test_each_file_is_served_with_its_type_and_headers(client: TestClient, file: str) -> None:
    """A browser may not guess types, and asks again for each file after an upgrade."""
    kinds = {".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

    answer = client.get(f"/static/{file}")

    assert 200 == answer.status_code
    assert kinds[f".{file.rpartition('.')[2]}"] == answer.headers["Content-Type"]
    assert "no-cache" == answer.headers["Cache-Control"]
    assert "nosniff" == answer.headers["X-Content-Type-Options"]
    again = client.get(f"/static/{file}", headers={"If-None-Match": answer.headers["ETag"]})
    assert 304 == again.status_code


@pytest.mark.parametrize(
    "path",
    [
        "/static/../plugin.py",
        "/static/%2e%2e/plugin.py",
        "/static/..%2fplugin.py",
        "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2fpyproject.toml",
        "/static//etc/passwd",
        "/static/..%5cplugin.py",
        "/static/",
        "/static",
        "/",
        "/docs",
        "/openapi.json",
    ],
)
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    """A path cannot leave the folder of the page, which is not listed either."""
    assert 404 == client.get(path).status_code


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_no_route_changes_anything(client: TestClient, method: str) -> None:
    """The page adds no route that another site could call with the user's cookie."""
    assert 405 == client.request(method, "/static/view.js").status_code
