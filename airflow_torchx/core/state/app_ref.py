"""Parses which app a user means, and which connection leads to its daemon."""

from __future__ import annotations

from typing import Final, NamedTuple

from airflow_torchx.errors import ConditionError, InvalidAppError
from airflow_torchx.specs import make_app_handle, parse_app_handle
from airflow_torchx.specs.handle import SCHEDULER, SWARM_SCHEDULER

#: The session of handles without a connection; TorchX's default.
DEFAULT_SESSION: Final = "torchx"
#: The schedulers of apps in handles; ``docker`` is TorchX's name of the first one.
_BACKENDS: Final = (SCHEDULER, "docker", SWARM_SCHEDULER)
_FIX: Final = (
    "A handle looks like 'local_docker://torchx/trainer-x1', or on a swarm like "
    "'docker_swarm://torchx/trainer-x1'."
)


class AppRef(NamedTuple):
    """An app id and the connection to its daemon; None for the environment's daemon."""

    app_id: str
    torchx_conn_id: str | None
    scheduler: str = SCHEDULER

    @property
    def handle(self) -> str:
        """The handle of the app."""
        session = self.torchx_conn_id or DEFAULT_SESSION
        return make_app_handle(self.scheduler, session, self.app_id)


def app_ref(app: object, torchx_conn_id: str | None = None) -> AppRef:
    """Return the app that a handle or an id refers to.

    The session of a handle is its connection, unless another one is given; an empty session and
    TorchX's default, ``torchx``, mean the environment's daemon.

    Raises:
        ConditionError: the value is empty, not a text, or a handle of another scheduler.
    """
    if not isinstance(app, str):
        what = f"expected the app's handle or id, got {app!r:.50}."
        raise ConditionError(what, fix=_FIX)
    if not app:
        what = "the app's handle or id is empty."
        raise ConditionError(what, fix="Check what the task that launched the app returned.")
    if "://" not in app:
        return AppRef(app, torchx_conn_id)
    try:
        backend, session, app_id = parse_app_handle(app)
    except InvalidAppError:
        backend, session, app_id = "", "", ""
    if backend not in _BACKENDS:
        what = f"{app!r} is not a handle of an app on a Docker daemon or a Docker Swarm."
        raise ConditionError(what, fix=_FIX)
    session_conn_id = session if session not in {"", DEFAULT_SESSION} else None
    scheduler = SWARM_SCHEDULER if backend == SWARM_SCHEDULER else SCHEDULER
    return AppRef(app_id, torchx_conn_id or session_conn_id, scheduler)
