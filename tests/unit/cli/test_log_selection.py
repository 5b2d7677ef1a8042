"""Tests how the command log selects replicas."""

from __future__ import annotations

import pytest

from airflow_torchx.cli.log import LogSelection, parse_identifier, select
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.errors import AppNotFoundError, UsageError
from airflow_torchx.specs import AppState, DescribeAppResponse, ReplicaStatus, RoleStatus

HANDLE = "local_docker://torchx/app-1"
APP = DescribeAppResponse(
    app_id="app-1",
    roles_statuses=[
        RoleStatus(role, [ReplicaStatus(i, AppState.RUNNING, role, "h") for i in range(3)])
        for role in ("trainer", "reader")
    ],
)


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        (HANDLE, LogSelection(HANDLE, None, ())),
        (f"{HANDLE}/", LogSelection(HANDLE, None, ())),
        (f"{HANDLE}/trainer/", LogSelection(HANDLE, "trainer", ())),
        (f"{HANDLE}/trainer/0/", LogSelection(HANDLE, "trainer", (0,))),
        ("app-1/trainer/", LogSelection("app-1", "trainer", ())),
        (f"{HANDLE}/trainer", LogSelection(HANDLE, "trainer", ())),
        (f"{HANDLE}/trainer/0", LogSelection(HANDLE, "trainer", (0,))),
        (f"{HANDLE}/trainer/0,12", LogSelection(HANDLE, "trainer", (0, 12))),
        (f"{HANDLE}/trainer/0,1,", LogSelection(HANDLE, "trainer", (0, 1))),
        ("docker:///app-1/trainer", LogSelection("docker:///app-1", "trainer", ())),
        ("app-1", LogSelection("app-1", None, ())),
        ("app-1/trainer/1", LogSelection("app-1", "trainer", (1,))),
    ],
)
def test_identifiers(identifier: str, expected: LogSelection) -> None:
    """An identifier is a handle or an app id, optionally with a role and replicas."""
    assert expected == parse_identifier(identifier)


@pytest.mark.parametrize("identifier", ["", "/", f"{HANDLE}/trainer/x", f"{HANDLE}/a/1/2"])
def test_invalid_identifiers(identifier: str) -> None:
    """The error of an invalid identifier shows the valid form."""
    with pytest.raises(UsageError, match=r"local_docker://torchx/APP_ID.*/ROLE.*/ID,ID2"):
        parse_identifier(identifier)


@pytest.mark.parametrize(
    ("role", "ids", "expected"),
    [
        (
            None,
            (),
            [("reader", 0), ("reader", 1), ("reader", 2)] + [("trainer", i) for i in range(3)],
        ),
        ("trainer", (), [("trainer", 0), ("trainer", 1), ("trainer", 2)]),
        ("trainer", (2, 0), [("trainer", 2), ("trainer", 0)]),
    ],
)
def test_selected_replicas(
    role: str | None, ids: tuple[int, ...], expected: list[tuple[str, int]]
) -> None:
    """A selection is all replicas, those of a role, or some of that role."""
    replicas = replicas_of(select(APP, LogSelection("app-1", role, ids)))

    assert sorted(expected) == sorted((one.role, one.id) for one in replicas)


@pytest.mark.parametrize(
    ("role", "ids", "message"),
    [
        ("tainer", (), "did you mean 'trainer'"),
        ("trainer", (7,), "trainer/0, trainer/1, trainer/2"),
    ],
)
def test_unknown_replicas(role: str, ids: tuple[int, ...], message: str) -> None:
    """The error of an unknown role or replica lists the known ones."""
    with pytest.raises(AppNotFoundError, match=message):
        select(APP, LogSelection("app-1", role, ids))
