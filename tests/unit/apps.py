"""Apps and plans that unit tests launch on the fake engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_torchx.core.plan.job_plan import JobPlan, LaunchContext, plan
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.runtime import lifecycle
from airflow_torchx.specs import AppDef, Role

if TYPE_CHECKING:
    from airflow_torchx.core.engine.protocol import Engine


def app(replicas: int = 3, **role: Any) -> AppDef:  # noqa: ANN401 - any field of a Role
    """Return an app of one role."""
    return AppDef(
        "app", [Role("trainer", "busybox", entrypoint="run", num_replicas=replicas, **role)]
    )


def planned(of: AppDef | None = None, *, launch_id: str = "one", **options: object) -> JobPlan:
    """Return the plan of an app whose id is ``app-1``."""
    launch = LaunchContext(
        app_id="app-1", handle="local_docker://t/app-1", launch_id=launch_id, environ={}
    )
    return plan(of or app(), Opts.parse(options), launch)


def states(engine: Engine) -> list[str]:
    """Return the states of all replicas."""
    found = lifecycle.observe(engine, "app-1")
    assert found is not None
    return [replica.state.name for replica in replicas_of(found)]
