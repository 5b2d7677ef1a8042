"""Which app is meant, and on which daemon; pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from airflow_torchx.errors import ConditionError, InvalidAppError
from airflow_torchx.specs import make_app_handle, parse_app_handle

#: Session in handles of apps that no connection belongs to; TorchX's own default.
DEFAULT_SESSION: Final = "torchx"
#: The scheduler's name in app handles.
SCHEDULER: Final = "local_docker"
#: Schedulers in handles of apps that run on one Docker daemon.
_BACKENDS: Final = (SCHEDULER, "docker")


class AppRef(NamedTuple):
    """An app, and the connection to its daemon; None for the daemon of the environment."""

    app_id: str
    torchx_conn_id: str | None

    @property
    def handle(self) -> str:
        """The app's handle."""
        session = self.torchx_conn_id or DEFAULT_SESSION
        return make_app_handle(SCHEDULER, session, self.app_id)


def app_ref(app: str, torchx_conn_id: str | None = None) -> AppRef:
    """Return where an app is.

    The session of a handle is the connection by which the app was launched, and TorchX's own,
    ``torchx``, stands for the daemon of the environment, as does an empty one.

    Args:
        app: a handle, or an app id.
        torchx_conn_id: the connection, whatever a handle's session says; None to go by that.

    Raises:
        ConditionError: it is no handle of an app on a Docker daemon, or empty.
    """
    if not app:
        what = "the handle or the id of the app is empty."
        raise ConditionError(what, fix="Look at what the task that launched it returned.")
    if "://" not in app:
        return AppRef(app, torchx_conn_id)
    try:
        backend, session, app_id = parse_app_handle(app)
    except InvalidAppError:
        backend, session, app_id = "", "", ""
    if backend not in _BACKENDS:
        what = f"{app!r} is no handle of an app on a Docker daemon."
        raise ConditionError(what, fix="It looks like 'local_docker://torchx/trainer-x1'.")
    by_session = session if session not in {"", DEFAULT_SESSION} else None
    return AppRef(app_id, torchx_conn_id or by_session)
