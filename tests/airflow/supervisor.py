"""A supervisor of one task, which answers the task's requests as a test wants.

It speaks Airflow's own protocol over a socket, so the task runs Airflow's own code on its side. It
keeps what the API server would keep: XComs, the task's state and its state store.
"""

from __future__ import annotations

import signal
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import structlog
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.api.datamodels._generated import (
    DagRun,
    DagRunState,
    DagRunType,
    TaskInstanceState,
    TIRunContext,
)
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    CommsDecoder,
    ErrorResponse,
    OKResponse,
    TaskStatesResult,
    TaskStateStoreResult,
    _RequestFrame,
    _ResponseFrame,
)
from airflow.sdk.listener import get_listener_manager
from airflow.sdk.serde import serialize
from uuid6 import uuid7

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

#: A state of the task instance: it is not in the database, as after its DAG was deleted.
DELETED: Final = "deleted"
_LENGTH: Final = 4
_WHEN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_REACHED: Final[Mapping[str, Any]] = MappingProxyType(
    {"reason": "reached", "state": "SUCCEEDED", "message": "", "app_id": ""}
)


class Answer(Enum):
    """What a request gets instead of an answer."""

    NOT_FOUND = 404
    CONFLICT = 409
    SERVER_ERROR = 500
    REFUSED = "ConnectError"
    TIMED_OUT = "ReadTimeout"
    #: The supervisor's socket is closed, now and later.
    CLOSED = "closed"


@dataclass(frozen=True)
class Point:
    """A kind of request.

    Args:
        type: name of Airflow's message.
        key: of the XCom, if it is one.
        phase: of the task's record, if it is one.
    """

    type: str
    key: str | None = None
    phase: str | None = None

    def __str__(self) -> str:
        return "-".join(filter(None, (self.type, self.key, self.phase)))

    def matches(self, body: Mapping[str, Any]) -> bool:
        """Tell whether a request is of this kind."""
        value = body.get("value")
        phase = value.get("phase") if isinstance(value, dict) else None
        return (
            body["type"] == self.type
            and self.key in (None, body.get("key"))
            and self.phase in (None, phase)
        )


class Ended:
    """How a process of the task ended.

    Args:
        message: the last message to the supervisor, by which the process reports its end.
        error: what the task raised.
    """

    def __init__(self, message: BaseModel, error: BaseException | None) -> None:
        self.message: Any = message
        self.error = error

    @property
    def report(self) -> str:
        """The name of Airflow's message, like ``SucceedTask``."""
        return type(self.message).__name__


class Supervisor:
    """Runs the processes of one task, one after the other, in this process.

    Args:
        task: the task.
        max_tries: number of its retries.
        run_id: the DAG run.
    """

    def __init__(self, task: BaseOperator, *, max_tries: int = 1, run_id: str = "run") -> None:
        self._max_tries = max_tries
        self._run_id = run_id
        if not task.has_dag():  # type: ignore[no-untyped-call]
            DAG("dag", schedule=None).add_task(task)
        self._task = task
        #: What the API server keeps.
        self.xcoms: dict[str, Any] = {}
        self.store: dict[str, Any] = {}
        self.state: str | None = "running"
        #: The state from the report of the end on, if a process looks at it then.
        self.state_after_report: str | None = "unseen"
        #: The state from the second look after the report on; "unseen" if it stays.
        self.state_in_the_end: str | None = "unseen"
        #: The requests that are answered wrongly from now on, in one process.
        self._fault: tuple[Point, Answer] | None = None
        self._is_broken = False
        self._is_finalizing = False

    def fail(self, point: Point, answer: Answer) -> None:
        """Answer so, from the next request of this kind on, until the process ends.

        A server that has not lost the task, but is away, does not tell its state either.
        """
        self._fault, self._is_broken = (point, answer), False

    def run(
        self,
        try_number: int = 1,
        deferred: Ended | None = None,
        event: Mapping[str, Any] = _REACHED,
    ) -> Ended:
        """Run a process of the task; one that goes on after a deferral gets an event."""
        ours, theirs = socket.socketpair()
        answering = threading.Thread(target=self.answer_all, args=(ours,), daemon=True)
        with ours, theirs:
            answering.start()
            try:
                ended = self.execute(theirs, try_number, deferred, event)
            finally:
                theirs.close()
                answering.join()
        assert self._fault is None or self._is_broken, f"no request was {self._fault[0]}"
        self._fault, self._is_broken = None, False
        return ended

    def execute(
        self,
        channel: socket.socket,
        try_number: int = 1,
        deferred: Ended | None = None,
        event: Mapping[str, Any] = _REACHED,
    ) -> Ended:
        """Run the task in this process; its requests go through the channel."""
        ti = self._ti(try_number, deferred, event)
        on_term = signal.getsignal(signal.SIGTERM)
        task_runner.SUPERVISOR_COMMS = CommsDecoder(socket=channel)
        try:
            context = ti.get_template_context()
            _, message, error = task_runner.run(ti, context, structlog.get_logger("task"))
            self._finalize()
        finally:
            del task_runner.SUPERVISOR_COMMS
            signal.signal(signal.SIGTERM, on_term)
        return Ended(cast("BaseModel", message), error)

    def _finalize(self) -> None:
        """Do what Airflow does after the report, or drop what waits for that."""
        manager = get_listener_manager()
        if self.state_after_report != "unseen":
            self.state, self._is_finalizing = self.state_after_report, True
            manager.hook.before_stopping(component=None)
        for listener in manager.pm.get_plugins():
            manager.pm.unregister(listener)

    def _ti(
        self, try_number: int, deferred: Ended | None, event: Mapping[str, Any]
    ) -> task_runner.RuntimeTaskInstance:
        server = TIRunContext(
            dag_run=DagRun(
                dag_id="dag",
                run_id=self._run_id,
                logical_date=None,
                data_interval_start=None,
                data_interval_end=None,
                run_after=_WHEN,
                start_date=_WHEN,
                end_date=None,
                run_type=DagRunType.MANUAL,
                state=DagRunState.RUNNING,
                consumed_asset_events=[],
                partition_key=None,
            ),
            max_tries=self._max_tries,
            should_retry=try_number <= self._max_tries,
        )
        if deferred is not None:
            server.next_method = deferred.message.next_method
            server.next_kwargs = {**deferred.message.next_kwargs, "event": serialize(dict(event))}
        return task_runner.RuntimeTaskInstance.model_construct(
            id=uuid7(),
            task_id=self._task.task_id,
            dag_id="dag",
            run_id=self._run_id,
            try_number=try_number,
            map_index=-1,
            dag_version_id=uuid7(),
            task=self._task,
            bundle_instance=None,
            _ti_context_from_server=server,
            max_tries=self._max_tries,
            start_date=datetime.now(UTC),
            state=TaskInstanceState.RUNNING,
        )

    def answer_all(self, channel: socket.socket) -> None:
        """Answer the requests of a process until it closes the channel."""
        decoder = msgspec.msgpack.Decoder(_RequestFrame)
        with suppress(OSError), channel.makefile("rb") as incoming:
            while length := incoming.read(_LENGTH):
                frame = decoder.decode(incoming.read(int.from_bytes(length, "big")))
                answer = self._wrong_answer(frame.body or {})
                if answer is Answer.CLOSED:
                    channel.shutdown(socket.SHUT_RDWR)
                    return
                response = self._right_answer(frame) if answer is None else _error(frame, answer)
                channel.sendall(response.as_bytes())

    def _wrong_answer(self, body: Mapping[str, Any]) -> Answer | None:
        if self._fault is None:
            return None
        point, answer = self._fault
        self._is_broken = self._is_broken or point.matches(body)
        knows_state = isinstance(answer.value, int) and answer is not Answer.SERVER_ERROR
        is_answered = body["type"] == "GetTaskStates" and knows_state
        return answer if self._is_broken and not is_answered else None

    def _right_answer(self, frame: _RequestFrame) -> _ResponseFrame:
        body = frame.body or {}
        found: BaseModel = OKResponse(ok=True)
        match body["type"]:
            case "SetXCom":
                self.xcoms[body["key"]] = body["value"]
            case "SetTaskStateStore":
                self.store[body["key"]] = body["value"]
            case "GetTaskStateStore" if body["key"] in self.store:
                found = TaskStateStoreResult(value=self.store[body["key"]])
            case "GetTaskStateStore":
                found = ErrorResponse(error=ErrorType.TASK_STORE_NOT_FOUND, detail={})
            case "GetTaskStates":
                states = {self._run_id: {self._task.task_id: self.state}}
                found = TaskStatesResult(task_states={} if self.state == DELETED else states)
                if self._is_finalizing and self.state_in_the_end != "unseen":
                    self.state = self.state_in_the_end
            case _:
                pass
        return _ResponseFrame(id=frame.id, body=found.model_dump())


def _error(frame: _RequestFrame, answer: Answer) -> _ResponseFrame:
    """Return an error as Airflow's supervisor hands it on."""
    detail: dict[str, Any] = {"status_code": None, "message": "no", "exception_type": answer.value}
    if isinstance(answer.value, int):
        detail = {"status_code": answer.value, "message": "no", "detail": None}
    error = ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail)
    return _ResponseFrame(id=frame.id, error=error.model_dump())
