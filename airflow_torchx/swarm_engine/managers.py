"""The managers of a swarm: the next one is asked when one does not answer."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from airflow_torchx.core.swarm.membership import why_not_manager
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.docker_engine.request import request
from airflow_torchx.errors import EngineError, EngineUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_torchx.docker_engine.engine import DockerEngine
    from airflow_torchx.docker_engine.request import Client, Response

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: What a manager says that has lost the others. Its containers run on, and it may find them again.
_NO_LEADER: Final = ("does not have a leader", "lost leader status", "context deadline exceeded")
#: What to do then.
NO_LEADER_FIX: Final = (
    "More than half of its managers must be up: start the daemons of the others. Containers run on "
    "without them."
)
OTHER_SWARM_FIX: Final = "Leave it out of the managers of the connection."
_NOT_A_MANAGER: Final = "not a swarm manager"


class Managers:
    """Sends each request to one manager, and to the next one if that does not answer.

    Args:
        connects: connects to each manager, in the order of preference.
    """

    def __init__(self, connects: Sequence[Callable[[], DockerEngine]]) -> None:
        self._connects = connects
        self._open: dict[int, DockerEngine] = {}
        self._current = 0
        self._unanswered = 0
        self._lock = threading.Lock()
        #: The swarm that all of them must be of; empty for the one of whichever answers.
        self._swarm_id = ""
        self._checked = set[int]()

    def expect(self, swarm_id: str) -> None:
        """Ask only managers of this swarm from now on.

        One of another swarm would answer that all apps are gone.
        """
        self._swarm_id = swarm_id

    def json(
        self,
        method: str,
        path: str,
        what: str,
        fields: Any = Any,  # noqa: ANN401 - a type
        **options: Any,  # noqa: ANN401 - see `request`
    ) -> Any:  # noqa: ANN401 - any JSON
        """Send a request and return the JSON of its response; None if that is empty.

        ``fields`` is the type of that: of a TypedDict, only what it has is returned.

        Raises:
            EngineError: as `docker_engine.errors.engine_errors` translates it.
            EngineUnreachableError: no manager answers, or the swarm has no leader.
        """
        return self._sent(method, path, what, partial(_decoded, fields=fields), **options)

    def send(self, method: str, path: str, what: str, **options: Any) -> Response:  # noqa: ANN401
        """Send a request and return its response."""
        return self._sent(method, path, what, lambda response: response, **options)

    def _sent(
        self,
        method: str,
        path: str,
        what: str,
        read: Callable[[Response], Any],
        **options: Any,  # noqa: ANN401 - see `request`
    ) -> Any:  # noqa: ANN401 - what ``read`` returns
        def ask(engine: DockerEngine) -> Any:  # noqa: ANN401
            with engine_errors(what, str(engine.endpoint.url)):
                return read(request(engine.client, method, path, **options))

        return self.ask(ask)

    def ask(self, question: Callable[[DockerEngine], _T]) -> _T:
        """Return the answer of the first manager that has one.

        It logs that a manager was left once another one has answered: if none does, the caller
        knows whether it goes on.
        """
        failures = list[EngineUnreachableError]()
        for _ in self._connects:
            number = self._current
            try:
                engine = self._engine(number)
                self._check(number, engine)
                answer = question(engine)
            except EngineError as error:
                unreachable = self._as_unreachable(number, error)
                if unreachable is None:
                    raise
                failures.append(unreachable)
                self._leave(number)
            else:
                if failures:
                    _log.warning("another manager of the swarm answers: %s", failures[-1].what)
                return answer
        raise _together(failures)

    @property
    def engine(self) -> DockerEngine:
        """The daemon of the manager that answers."""
        return self.ask(lambda engine: engine)

    @property
    def unanswered(self) -> int:
        """How many requests a manager has not answered so far."""
        return self._unanswered

    @property
    def client(self) -> Client:
        """The client of that daemon."""
        return self.engine.client

    def close(self) -> None:
        """Close all connections. Idempotent."""
        with self._lock:
            found, self._open = self._open, {}
        for engine in found.values():
            engine.close()

    def _engine(self, number: int) -> DockerEngine:
        with self._lock:
            found = self._open.get(number)
        if found is not None:
            return found
        made = self._connects[number]()
        with self._lock:
            kept = self._open.setdefault(number, made)
        if kept is not made:
            made.close()
        return kept

    def _check(self, number: int, engine: DockerEngine) -> None:
        """Let a manager be of the swarm that is expected.

        Raises:
            EngineUnreachableError: it is of another one.
        """
        if not self._swarm_id or number in self._checked:
            return
        url = str(engine.endpoint.url)
        with engine_errors("connect to the swarm", url):
            found = _decoded(request(engine.client, "GET", "/swarm"))
        if found["ID"] != self._swarm_id:
            raise EngineUnreachableError(f"{of_another_swarm(url)}.", fix=OTHER_SWARM_FIX)
        self._checked.add(number)

    def _as_unreachable(self, number: int, error: EngineError) -> EngineUnreachableError | None:
        """Return an error that another manager, or a later request, may not have; else None."""
        if isinstance(error, EngineUnreachableError):
            return error
        text = str(error)
        if _NOT_A_MANAGER in text:
            return self._not_a_manager(number, error)
        is_server = (error.status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR
        if is_server and any(words in text for words in _NO_LEADER):
            return EngineUnreachableError(error.what, fix=NO_LEADER_FIX)
        return None

    def _not_a_manager(self, number: int, error: EngineError) -> EngineUnreachableError:
        """Return why a daemon is not a manager, by what it says of itself."""
        with suppress(EngineError):
            engine = self._engine(number)
            url = str(engine.endpoint.url)
            with engine_errors("describe the daemon", url):
                refusal = why_not_manager(engine.client.info(), url)
            if refusal is not None:
                return EngineUnreachableError(refusal.what, fix=refusal.fix)
        # It has become one since.
        return EngineUnreachableError(error.what, fix="Try again.")

    def _leave(self, number: int) -> None:
        with self._lock:
            self._unanswered += 1
            if self._current == number:
                self._current = (number + 1) % len(self._connects)


def of_another_swarm(url: str) -> str:
    """Return what is wrong with a manager of another swarm."""
    return f"the daemon at {url} is a manager of another swarm"


def _together(failures: Sequence[EngineUnreachableError]) -> EngineUnreachableError:
    """Return one error for those of all managers."""
    if len(failures) == 1:
        return failures[0]
    what = "; ".join(error.what.rstrip(".") for error in failures)
    fixes = dict.fromkeys(filter(None, (error.fix for error in failures)))
    return EngineUnreachableError(
        f"no manager of the swarm can be asked: {what}.", fix=" ".join(fixes)
    )


def filters(of: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the parameters of a list request with filters."""
    return {"filters": json.dumps(of)}


def _decoded(response: Response, fields: Any = Any) -> Any:  # noqa: ANN401 - any JSON
    # The tasks of 64 replicas are 170 kB: the decoder of requests takes 2.1 ms, this one 1.2 ms,
    # and 0.5 ms for the fields that are read.
    try:
        return msgspec.json.decode(response.content, type=fields) if response.content else None
    except msgspec.DecodeError as error:
        raise json.JSONDecodeError(str(error), "", 0) from error
