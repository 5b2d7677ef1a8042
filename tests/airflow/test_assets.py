"""What the events of assets say of the app that made them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.models.asset import AssetEvent
from airflow.sdk import Asset, AssetAlias
from airflow.utils.session import create_session
from sqlalchemy import select

from tests.airflow.apps import both_modes, shell

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tests.airflow.one_task import Ended, OneTask

pytestmark = pytest.mark.docker

SCRIPT = """
echo '{"accuracy": 0.5, "login": "hunter2-hunter2"}' >/result.json
echo '{"step": 9, "total": 9, "metrics": {"loss": 0.25}}' >$TORCHX_PROGRESS_FILE
"""


def name_version(context: Context) -> None:
    """Put something of a user into the event of the model."""
    context["outlet_events"][Asset("model")].extra["version"] = 7
    context["outlet_events"][AssetAlias("models")].add(Asset("other"), {"by": "user"})


def events_of(ended: Ended) -> dict[str, Any]:
    """Return the extra of the events of a task, by the name of the asset."""
    with create_session() as session:
        query = select(AssetEvent).where(AssetEvent.source_run_id == ended.ti.run_id)
        found = session.scalars(query.where(AssetEvent.source_dag_id == ended.ti.dag_id))
        return {event.asset.name: event.extra for event in found}


@both_modes
def test_the_event_of_an_asset(one_task: OneTask) -> None:
    """It has the handle, the images, the metrics and the masked result, beside a user's values."""
    ended = one_task.run(
        app=shell(SCRIPT, replicas=1),
        result_path="/result.json",
        private_env={"TOKEN": "hunter2-hunter2"},
        outlets=[Asset("model"), Asset("report"), AssetAlias("models")],
        pre_execute=name_version,
    )

    assert "success" == ended.state
    found = events_of(ended)
    model = found["model"]
    assert 7 == model.pop("version")
    assert {
        "app_handle": ended.xcom("app_handle"),
        "image_ids": ended.xcom("image_ids"),
        "step": 9,
        "metrics": {"loss": 0.25},
        "result": {"accuracy": 0.5, "login": "***"},
    } == model["torchx"]
    assert model == found["report"]
    assert {"by": "user"} == found["other"]


def test_an_app_that_fails_makes_no_event(one_task: OneTask) -> None:
    """An asset of a task that failed has no event."""
    ended = one_task.run(app=shell("exit 3"), outlets=[Asset("model")])

    assert {} == events_of(ended)
