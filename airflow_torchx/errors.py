"""The errors of this package, one small tree.

* AirflowTorchXError
  + InvalidAppError          the app or its options cannot be run as they are
  + UsageError               a command line, or a .torchxconfig, says what cannot be
  + ComponentError           no such component, or arguments it does not take
  + FunctionError            a function cannot run in a container, or an argument cannot get there
  + ConditionError           what is waited for can never be, or contradicts itself
  + WorkspaceError           the workspace cannot be read, is empty, or is too large
  + AppExistsError           an app with this id is already on the daemon
  + AppNotFoundError         no app, role or replica of that name on the daemon
  + LaunchError              a replica could not be created or started; nothing was left behind
  + LaunchInterruptedError   the launch was told to stop; nothing was left behind
  + AppFailedError           the app ran and failed
    - OutOfMemoryError       the replica that failed first was killed for want of memory
    - ReplicaLostError       the container of the replica that failed first is gone
  + AppCancelledError        the app was cancelled before it ended
  + WorkerShutdownError      the worker of the task ends; the app goes on
  + ResultError              the app succeeded, but its result cannot be read
  + WaitTimeoutError         the app is still running, and the caller's patience is over
  + EngineError              the Docker Engine refused a request
    - EngineUnreachableError no answer from the Docker Engine
    - EngineNotFoundError    the Engine knows no such object (HTTP 404)
    - EngineConflictError    the name is taken, or the state forbids it (HTTP 409)
    - ImagePullError         an image could not be pulled
    - ImageBuildError        a step of a Dockerfile failed
    - ImagePushError         an image could not be pushed

Every message says what happened, why, and what to do. All of them survive pickling, because
Airflow moves exceptions between processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _rebuild(
    cls: Callable[..., AirflowTorchXError], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AirflowTorchXError:
    return cls(*args, **kwargs)


class AirflowTorchXError(Exception):
    """The root: catch it to catch whatever this package raises on purpose.

    Args:
        what: what happened and why, one or two sentences.
        fix: what the reader can do about it; on a line of its own in the message.
    """

    _init_args: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:  # noqa: ANN401 - whatever __init__ takes
        """Remember how the error was made, so that any subclass pickles."""
        self = super().__new__(cls, *args)
        self._init_args = (args, kwargs)
        return self

    def __init__(self, what: str, *, fix: str = "") -> None:
        text = f"{what}\n{fix}" if fix else what
        super().__init__(text)
        # OSError, a base of WaitTimeoutError, takes its arguments in __new__ and nowhere else.
        self.args = (text,)
        self.what = what
        self.fix = fix

    def __reduce__(self) -> tuple[Any, ...]:
        args, kwargs = self._init_args
        return (_rebuild, (type(self), args, kwargs))


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an app, and how to mend it.

    Args:
        where: the path of the field, like ``roles[0].resource.memMB``.
        what: what is wrong with it.
        fix: what to do.
    """

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.fix}"


class InvalidAppError(AirflowTorchXError, ValueError):
    """The app or its options cannot be run as they are; nothing was created.

    Args:
        problems: everything that is wrong, so that one round of mending is enough.
        subject: what was looked at, like ``app 'trainer'``.
    """

    def __init__(self, problems: Sequence[Problem], *, subject: str = "app") -> None:
        self.problems = tuple(problems)
        self.subject = subject
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        lines = [f"{subject} cannot be run: {count}", *(f"  - {p}" for p in self.problems)]
        super().__init__("\n".join(lines))


class UsageError(AirflowTorchXError, ValueError):
    """A command line, or a ``.torchxconfig``, says what cannot be; nothing was done."""


class ComponentError(AirflowTorchXError, ValueError):
    """No component has that name, or it does not take these arguments."""


class FunctionError(AirflowTorchXError, ValueError):
    """A function cannot run in a container, or an argument of it cannot get there."""


class ConditionError(AirflowTorchXError, ValueError):
    """What is waited for can never be, or contradicts itself."""


class AppExistsError(AirflowTorchXError):
    """An app with this id is already on the daemon; nothing was created."""

    def __init__(self, app_id: str) -> None:
        self.app_id = app_id
        super().__init__(
            f"app {app_id!r} already exists on this daemon.",
            fix="Delete it first, or wait on the app that is there.",
        )


class AppNotFoundError(AirflowTorchXError, LookupError):
    """No app, role or replica of that name is on the daemon."""


class WorkspaceError(AirflowTorchXError):
    """The workspace cannot be read, is empty, is too large, or changed while it was read."""


class LaunchError(AirflowTorchXError):
    """A replica could not be created or started; what had been created is removed again.

    Args:
        app_id: the app.
        replica: role and index, like ``trainer/3``.
        why: the Engine's own words.
        left: names of containers that could not be removed; empty when the undo was complete.
    """

    def __init__(self, app_id: str, replica: str, why: str, *, left: Sequence[str] = ()) -> None:
        self.app_id = app_id
        self.replica = replica
        self.why = why
        self.left = tuple(left)
        fix = (
            f"These containers could not be removed: {', '.join(self.left)}. "
            "Remove them with `docker rm -f`."
            if self.left
            else "Nothing of the app was left behind."
        )
        super().__init__(f"app {app_id!r}: replica {replica} did not start: {why}", fix=fix)


class LaunchInterruptedError(AirflowTorchXError):
    """The launch was told to stop before every replica ran; what existed is removed again."""


class AppFailedError(AirflowTorchXError):
    """The app ran and failed.

    Args:
        app_id: the app.
        card: what happened, ready to print: the replicas, the first failure, its last lines.
        exit_code: of the replica that failed first; None if it has none (it vanished).
        replica: role and index of the replica that failed first, like ``trainer/1``.
    """

    def __init__(
        self, app_id: str, card: str, *, exit_code: int | None = None, replica: str = ""
    ) -> None:
        self.app_id = app_id
        self.card = card
        self.exit_code = exit_code
        self.replica = replica
        super().__init__(card)


class OutOfMemoryError(AppFailedError):
    """The app failed: the replica that failed first was killed because it needed more memory."""


class ReplicaLostError(AppFailedError):
    """The app failed, and nobody knows why: the container of a replica is gone from the daemon."""


class AppCancelledError(AirflowTorchXError):
    """The app was cancelled before it ended."""


class WorkerShutdownError(AirflowTorchXError):
    """The worker of the task is shut down, and the app goes on: the next try takes it over."""


class ResultError(AirflowTorchXError):
    """The app succeeded, but the result that replica 0 should have written cannot be used."""


class WaitTimeoutError(AirflowTorchXError, TimeoutError):
    """The app has not ended within the time the caller gave; it goes on running."""


class EngineError(AirflowTorchXError):
    """The Docker Engine refused a request.

    Args:
        what: what was asked and what the Engine said.
        fix: what to do.
        status: the HTTP status, None when there was no answer.
    """

    def __init__(self, what: str, *, fix: str = "", status: int | None = None) -> None:
        self.status = status
        super().__init__(what, fix=fix)


class EngineUnreachableError(EngineError):
    """The Docker Engine does not answer: no socket, no permission, or no reply in time."""


class EngineNotFoundError(EngineError):
    """The Engine knows no such container, image or network."""


class EngineConflictError(EngineError):
    """The name is taken, or the object's state does not allow what was asked."""


class ImagePullError(EngineError):
    """An image could not be pulled."""


class ImageBuildError(EngineError):
    """A Dockerfile could not be built; the message has the step, its command and its last lines."""


class ImagePushError(EngineError):
    """An image could not be pushed, or a registry could not be asked."""
