"""Airflow finds what this package brings."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.provider import get_provider_info
from tests.airflow.command import airflow

if TYPE_CHECKING:
    from pathlib import Path

#: Airflow's command line takes its time.
pytestmark = pytest.mark.timeout(240)

PACKAGE = "airflow-torchx"
HOOK = "airflow_torchx.hooks.TorchXDockerHook"


#: Of ``airflow providers``.
COMMANDS = ("list", f"get {PACKAGE} --full", "hooks", "triggers", "widgets", "behaviours")
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def told(airflow_home: Path) -> dict[str, Rows]:
    """Return what each command lists."""
    assert airflow_home.is_dir()
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(COMMANDS, pool.map(rows, COMMANDS), strict=True))


def rows(command: str) -> Rows:
    """Return what ``airflow providers`` lists."""
    answer = airflow("providers", *command.split(), "--output=json")
    assert answer.code == 0, answer
    # What Airflow cannot use of a provider it leaves out, and says so there.
    assert "torchx" not in answer.errors
    found: Rows = json.loads(answer.output)
    return found


def test_list(told: dict[str, Rows]) -> None:
    """Airflow lists the provider with its version."""
    (found,) = [row for row in told["list"] if row["package_name"] == PACKAGE]

    assert version(PACKAGE) == found["version"]


def test_get(told: dict[str, Rows]) -> None:
    """The provider's description passes Airflow's checks."""
    (found,) = told[COMMANDS[1]]

    assert set(get_provider_info()) <= set(found)
    assert [["airflow_torchx.sensors"], ["airflow_torchx.triggers"]] == [
        found[role][0]["python-modules"] for role in ("sensors", "triggers")
    ]
    assert [{"name": "torchx", "class-name": "airflow_torchx.decorators.torchx_task"}] == (
        found["task-decorators"]
    )


def test_hooks(told: dict[str, Rows]) -> None:
    """The connection type has its hook."""
    (found,) = [row for row in told["hooks"] if row["package_name"] == PACKAGE]

    assert ("torchx_docker", HOOK, "torchx_conn_id") == (
        found["connection_type"],
        found["class"],
        found["conn_id_attribute_name"],
    )


def test_triggers(told: dict[str, Rows]) -> None:
    """The trigger's module is known."""
    found = [row["class"] for row in told["triggers"] if row["package_name"] == PACKAGE]

    assert ["airflow_torchx.triggers"] == found


def test_form(told: dict[str, Rows]) -> None:
    """The form of a connection has our fields, and not those that mean nothing to a daemon."""
    fields = [row["connection_parameter_name"] for row in told["widgets"] if row["class"] == HOOK]
    behaviours = [row["field_behaviours"] for row in told["behaviours"]]

    assert "extra__torchx_docker__tls_private_key" in fields
    assert 18 == len(fields)
    assert "torchx_docker" in behaviours


@pytest.mark.usefixtures("airflow_home")
def test_configuration() -> None:
    """The provider's section is part of Airflow's configuration."""
    answer = airflow("config", "get-value", "torchx", "default_conn_id")

    assert (0, "") == (answer.code, answer.output.strip()), answer


@pytest.mark.parametrize("role", ["operators", "sensors", "hooks", "triggers"])
def test_modules(role: str) -> None:
    """Every module that the provider names exists."""
    info: dict[str, Any] = get_provider_info()

    for name in info[role][0]["python-modules"]:
        assert import_module(name).__doc__


def test_decorator() -> None:
    """The task decorator that the provider names exists."""
    info: dict[str, Any] = get_provider_info()
    module, _, name = info["task-decorators"][0]["class-name"].rpartition(".")

    assert callable(getattr(import_module(module), name))
