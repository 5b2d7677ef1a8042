"""Registers the page with Airflow; the entry point ``airflow.plugins`` names this class.

Every Airflow process imports this module, so it holds only data. `server` is imported when the API
server gets its first request for the page.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from airflow.plugins_manager import AirflowPlugin

from airflow_torchx import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from airflow_torchx.ui.live import Live

_log = logging.getLogger(__name__)

#: Below the base of Airflow's web server. Addresses in the entries are relative to that base, so
#: they are right under a sub-path.
PREFIX: Final = "/torchx"
_STATIC: Final = f"{PREFIX[1:]}/static"


class Page:
    """Serves the page's files and routes; an ASGI application, loaded at its first request."""

    _app: Any = None

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        if self._app is None:
            from airflow_torchx.ui.server import create_app

            self._app = create_app(_live())
        await self._app(scope, receive, send)


def _live() -> Live | None:
    """Return what reads from Docker, if the configuration allows that; None for any other value."""
    from airflow.sdk import conf
    from airflow.sdk.exceptions import AirflowConfigException

    try:
        is_allowed = conf.getboolean("torchx", "ui_docker_access", fallback=False)
    except AirflowConfigException as error:
        _log.warning("the page does not read from Docker: %s", error)
        return None
    if not is_allowed:
        return None
    from airflow_torchx.ui.live import Live

    return Live()


def _entry(destination: str, url_route: str) -> dict[str, str]:
    """Return an entry of the page in Airflow's UI.

    All entries have one name: the module of the bundle runs once, and Airflow finds the component
    under the name of the entry.
    """
    return {
        "name": "TorchX",
        "bundle_url": f"{_STATIC}/shell.js?v={__version__}",
        "destination": destination,
        "url_route": url_route,
        "icon": f"{_STATIC}/icon.svg?v={__version__}",
        "icon_dark_mode": f"{_STATIC}/icon-dark.svg?v={__version__}",
    }


class TorchXPlugin(AirflowPlugin):
    """The page "TorchX": a list of apps in the navigation, and a tab of each task instance."""

    name = "torchx"
    fastapi_apps = [{"app": Page(), "url_prefix": PREFIX, "name": "TorchX"}]  # noqa: RUF012
    react_apps = [_entry("nav", "torchx"), _entry("task_instance", "torchx-app")]  # noqa: RUF012
