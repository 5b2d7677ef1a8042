"""The routes with data of running apps; they exist only with ``[torchx] ui_docker_access``.

All of them read, and each asks Airflow for the user's right on the DAG in its path.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import JSONResponse, PlainTextResponse

from airflow_torchx.core.logs.cursor import Cursor
from airflow_torchx.core.state.app_ref import app_ref
from airflow_torchx.core.state.live import TaskApp
from airflow_torchx.errors import ConditionError
from airflow_torchx.ui import auth
from airflow_torchx.ui.reading import MOST_LINES

if TYPE_CHECKING:
    from airflow_torchx.ui.live import Live

#: Airflow and this package never make a run id with a slash, but a setting of Airflow allows it.
_TASK: Final = "/api/v1/{dag_id}/{run_id:path}/{task_id}/{map_index}"
#: Airflow's word for all DAGs, which its check of rights accepts from readers of any DAG.
_ALL_DAGS: Final = "~"
_DEFAULT_TAIL: Final = 1_000
#: A browser neither keeps data of a user, nor takes a log for a page.
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def task_app(
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: int,
    handle: Annotated[str, Query(max_length=1_000)],
) -> TaskApp:
    """Return the app that a request names.

    Raises:
        HTTPException: 404 for a handle of another scheduler, and for ``~`` as the DAG.
    """
    try:
        app_id = app_ref(handle).app_id
    except ConditionError:
        raise HTTPException(int(HTTPStatus.NOT_FOUND), "not a handle of an app on Docker") from None
    if dag_id == _ALL_DAGS:
        raise HTTPException(int(HTTPStatus.NOT_FOUND), "not the id of a DAG")
    return TaskApp(
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        map_index=map_index,
        app_id=app_id,
        handle=handle,
    )


def after(since: Annotated[str | None, Query(max_length=100)] = None) -> Cursor | None:
    """Return the position in a log after which to read.

    Raises:
        HTTPException: 422, it is not the header ``X-TorchX-Since`` of an earlier answer.
    """
    try:
        return None if since is None else Cursor.parse(since)
    except ValueError as error:
        raise HTTPException(int(HTTPStatus.UNPROCESSABLE_ENTITY), str(error)) from None


App = Annotated[TaskApp, Depends(task_app)]


def create_router(live: Live) -> APIRouter:
    """Return the routes below the page's prefix."""
    router = APIRouter()

    @router.get(f"{_TASK}/live", dependencies=[Depends(auth.may_read_task)])
    async def state(app: App) -> JSONResponse:
        return JSONResponse(await live.state(app), headers=_HEADERS)

    @router.get(f"{_TASK}/stats", dependencies=[Depends(auth.may_read_task)])
    async def stats(app: App) -> JSONResponse:
        return JSONResponse(await live.usage(app), headers=_HEADERS)

    @router.get(f"{_TASK}/logs", dependencies=[Depends(auth.may_read_log)])
    async def logs(
        app: App,
        role: Annotated[str, Query(max_length=1_000)],
        replica: Annotated[int, Query(ge=0)],
        since: Annotated[Cursor | None, Depends(after)],
        tail: Annotated[int, Query(ge=1, le=MOST_LINES)] = _DEFAULT_TAIL,
    ) -> PlainTextResponse:
        part, attempt = await live.log(app, role, replica, tail=tail, after=since)
        headers = _HEADERS | {
            "X-TorchX-App-Id": quote(app.app_id, safe=""),
            "X-TorchX-Try": str(attempt),
            "X-TorchX-Left-Out": str(part.left_out),
        }
        if part.cursor is not None:
            headers["X-TorchX-Since"] = part.cursor.text
        return PlainTextResponse("".join(f"{line}\n" for line in part.lines), headers=headers)

    return router
