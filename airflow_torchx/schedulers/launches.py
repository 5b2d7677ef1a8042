"""What a launch takes from outside its plan: ids, chance, the environment, the daemon's GPUs."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from airflow_torchx.core.plan.identity import random_app_id
from airflow_torchx.core.plan.job_plan import Launch, Origin, gpus_wanted
from airflow_torchx.core.state.app_ref import SCHEDULER
from airflow_torchx.errors import EngineUnreachableError
from airflow_torchx.specs import make_app_handle

if TYPE_CHECKING:
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.specs import AppDef


def new_launch(
    engine: Engine,
    session_name: str,
    app: AppDef,
    opts: Opts,
    origin: Origin | None = None,
) -> Launch:
    """Return a launch of an app that no other is mistaken for.

    The daemon is asked for its GPU ids when the app wants GPUs.
    """
    origin = origin or Origin()
    app_id = origin.app_id or random_app_id(app.name, secrets.randbits(64))
    return Launch(
        app_id=app_id,
        handle=make_app_handle(SCHEDULER, session_name, app_id),
        launch_id=secrets.token_hex(8),
        environ=os.environ,
        gpu_ids=_gpu_ids(engine, app, opts),
        private_env=origin.private_env,
        labels=origin.labels,
        ambient_env=origin.ambient_env,
    )


def _gpu_ids(engine: Engine, app: AppDef, opts: Opts) -> tuple[str, ...]:
    if not gpus_wanted(app) or not opts.auto_set_gpus:
        return ()
    try:
        return engine.info().gpu_ids
    except EngineUnreachableError:
        return ()
