"""Serves the files of the page, and the routes that read from Docker if the site allows them.

Only Airflow's API server imports this module. The files hold no data: the page asks Airflow's own
API, with the rights of the user. So they need no login, and a page that is loaded before one is not
broken.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Any

    from starlette.responses import Response

    from airflow_torchx.ui.live import Live

STATIC: Final = Path(__file__).with_name("static")
_HEADERS: Final = {
    # Asked for each time, and answered by 304 unless it has changed: an upgrade shows at once.
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    # Of an icon that is opened as a document.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}


class _Files(StaticFiles):
    """Files with the headers of the page."""

    async def get_response(self, path: str, scope: MutableMapping[str, Any]) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


def create_app(live: Live | None = None) -> FastAPI:
    """Return the application that Airflow mounts.

    Args:
        live: reads from Docker; without it, no route has data.
    """
    app = FastAPI(title="TorchX", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", _Files(directory=STATIC), name="static")

    @app.get("/features")
    async def features() -> dict[str, bool]:
        """Return whether the routes with data exist, for a page that is loaded before a login."""
        return {"docker_access": live is not None}

    if live is not None:
        from airflow_torchx.ui.routes import create_router

        app.include_router(create_router(live))
    return app
