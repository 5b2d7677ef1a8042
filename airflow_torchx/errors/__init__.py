"""The exceptions that this package raises.

* AirflowTorchXError
  + InvalidAppError          the app, its options or the connection is invalid
    - InvalidOptionsError    a run option is unknown or invalid
      * MissingOptionError   a run option that is needed is not set
    - InvalidHandleError     a text is not an app handle
  + UsageError               a command line, a .torchxconfig or a path is invalid
  + ComponentError           the component does not exist, or does not take these arguments
    - SeveralProblemsError   several arguments of the component are invalid
    - ComponentNotFoundError no component has this name
    - InvalidComponentError  a command line cannot call the function
    - ResourceNotFoundError  no named resource has this name
  + FunctionError            the function or one of its arguments cannot be sent to a container
  + ConditionError           the condition, or the app that it is about, is invalid
  + WorkspaceError           the workspace cannot be read, is empty, or is too large
  + AppExistsError           an app with this id already exists on the daemon
  + AppNotFoundError         the daemon has no such app, role or replica
  + LaunchError              a replica could not be created or started; the launch was undone
  + LaunchInterruptedError   the launch was interrupted, and undone
  + AppFailedError           the app failed
    - OutOfMemoryError       the first replica to fail ran out of memory
    - CudaOutOfMemoryError   a GPU had too little memory
    - GpuLostError           a GPU broke, or was lost
    - StalledError           the app was stopped because it made no progress
    - ReplicaLostError       the container of the first replica to fail is gone
  + AppCancelledError        the app was cancelled
  + AirflowRequestError      Airflow did not answer a request of the task, or refused it
  + WorkerShutdownError      the task's worker is shutting down; the app keeps running
  + CheckpointError          checkpoints cannot be read from, or uploaded to, their URL
  + ResultError              the app succeeded, but its result cannot be used
  + WaitTimeoutError         the app did not finish within the caller's timeout
    - GpuWaitTimeoutError    not enough GPUs became free in time; nothing was launched
  + EngineError              the Docker Engine refused a request
    - EngineUnreachableError the Docker Engine did not answer
      * NodeUnreachableError that of a node of a swarm did not; the managers may
    - EngineNotFoundError    the object does not exist (HTTP 404)
    - EngineConflictError    the name is taken, or the state forbids it (HTTP 409)
    - ImagePullError         an image could not be pulled
    - ImageBuildError        a step of a Dockerfile failed
    - ImagePushError         an image could not be pushed

Every message says what happened and what to do. Airflow passes errors between processes, pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow_torchx.errors.app_failures import AppFailedError as AppFailedError
from airflow_torchx.errors.app_failures import CudaOutOfMemoryError as CudaOutOfMemoryError
from airflow_torchx.errors.app_failures import GpuLostError as GpuLostError
from airflow_torchx.errors.app_failures import OutOfMemoryError as OutOfMemoryError
from airflow_torchx.errors.app_failures import ReplicaLostError as ReplicaLostError
from airflow_torchx.errors.app_failures import StalledError as StalledError
from airflow_torchx.errors.base import AirflowTorchXError as AirflowTorchXError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# The path under which users import and catch these, and find them in a log.
for _error in (
    AirflowTorchXError,
    AppFailedError,
    CudaOutOfMemoryError,
    GpuLostError,
    OutOfMemoryError,
    ReplicaLostError,
    StalledError,
):
    _error.__module__ = __name__
del _error


@dataclass(frozen=True, slots=True)
class Problem:
    """One invalid value, and how to fix it.

    Args:
        where: path of the field, like ``roles[0].resource.memMB``.
        what: what is wrong with it.
        fix: what to do.
    """

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.fix}"


class InvalidAppError(AirflowTorchXError, ValueError):
    """The app, its options or the connection is invalid; nothing was created.

    Args:
        problems: all problems, so that the user can fix them in one pass.
        subject: what is invalid, like ``app 'trainer'``.
    """

    def __init__(self, problems: Sequence[Problem], *, subject: str = "app") -> None:
        self.problems = tuple(problems)
        self.subject = subject
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        lines = [f"invalid {subject}: {count}", *(f"  - {p}" for p in self.problems)]
        super().__init__("\n".join(lines))


class InvalidOptionsError(InvalidAppError):
    """A run option is unknown or invalid; nothing was created.

    As TorchX's exception, it can also be made of a reason and the name of the option.

    Args:
        problems: all problems, or the reason.
        cfg_key: the option, if a reason is given.
        cfg: all options; not shown, because they may hold secrets.
        subject: what is invalid.
    """

    def __init__(
        self,
        problems: Sequence[Problem] | str,
        cfg_key: str = "",
        cfg: object = None,  # noqa: ARG002 - TorchX's signature
        *,
        subject: str = "run options",
    ) -> None:
        if isinstance(problems, str):
            problems = [Problem(f"options.{cfg_key}", problems, "correct it, or leave it out")]
        super().__init__(problems, subject=subject)

    @property
    def cfg_key(self) -> str:
        """The first such option."""
        return self.problems[0].where.removeprefix("options.")


class MissingOptionError(InvalidOptionsError, KeyError):
    """A run option that is needed is not set; nothing was done."""

    # KeyError quotes its message.
    __str__ = InvalidOptionsError.__str__


class InvalidHandleError(InvalidAppError):
    """The value is not an app handle.

    Args:
        app_handle: the value.
    """

    def __init__(self, app_handle: object) -> None:
        what = f"expected scheduler://session/app_id, got {app_handle!r}"
        fix = "copy it from the launch log, like 'local_docker://torchx/trainer-x1'"
        super().__init__([Problem("handle", what, fix)], subject="app handle")


class UsageError(AirflowTorchXError, ValueError):
    """A command line, a ``.torchxconfig`` or a path is invalid; nothing was done."""


class ComponentError(AirflowTorchXError, ValueError):
    """The component does not exist, or does not take these arguments."""


class SeveralProblemsError(ComponentError):
    """Several arguments of a component are invalid; ``lines`` has one line for each problem."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n  - ".join(["invalid arguments:", *lines]))


class ComponentNotFoundError(ComponentError):
    """No component has this name."""


class InvalidComponentError(ComponentError):
    """The function does not return an app, or has parameters that a command line cannot set."""


class ResourceNotFoundError(ComponentError, KeyError):
    """No named resource has this name, or several have it in another case."""

    # KeyError quotes its message.
    __str__ = ComponentError.__str__


def check_all(*checks: Callable[[], Any]) -> list[Any]:
    """Return what every check returns, or raise one error with the problems of all.

    Raises:
        SeveralProblemsError: several checks raised an error.
        ComponentError, InvalidAppError: one did.
    """
    results, errors = [], []
    for check in checks:
        try:
            results.append(check())
        except (ComponentError, InvalidAppError) as error:
            errors.append(error)
    lines = dict.fromkeys(line for error in errors for line in problems_of(error))
    if len(lines) > 1 and len(errors) > 1:
        raise SeveralProblemsError([*lines])
    if errors:
        raise errors[0]
    return results


def problems_of(error: ComponentError | InvalidAppError) -> list[str]:
    """Return the problems in an error, one line for each."""
    if isinstance(error, InvalidAppError):
        return [str(problem) for problem in error.problems]
    if isinstance(error, SeveralProblemsError):
        return [*error.lines]
    return [" ".join(f"{error.what.rstrip('.')}. {error.fix}".split())]


class FunctionError(AirflowTorchXError, ValueError):
    """The function or one of its arguments cannot be sent to a container."""


class ConditionError(AirflowTorchXError, ValueError):
    """The condition can never hold, or the handle is not one of an app on a Docker daemon."""


class AppExistsError(AirflowTorchXError):
    """An app with this id already exists; nothing was created."""

    def __init__(self, app_id: str) -> None:
        self.app_id = app_id
        super().__init__(
            f"app {app_id!r} already exists.",
            fix="Delete it first, or wait for it.",
        )


class AppNotFoundError(AirflowTorchXError, LookupError):
    """The daemon has no such app, role or replica."""


class WorkspaceError(AirflowTorchXError):
    """The workspace cannot be read, is empty, is too large, or changed during the read."""


def leftovers(names: Sequence[str], remove: str = "docker rm -f") -> str:
    """Return that an undo could not remove replicas, and the command; empty for none."""
    command = f"{remove} {' '.join(names)}"
    return f"Some replicas could not be removed. Run `{command}`." if names else ""


class LaunchError(AirflowTorchXError):
    """A replica could not be created or started; the other replicas were removed.

    Args:
        app_id: the app.
        replica: role and index, like ``trainer/3``.
        why: the Engine's message.
        left: names of containers, or of services, that could not be removed.
        remove: the command that removes them.
    """

    def __init__(
        self,
        app_id: str,
        replica: str,
        why: str,
        *,
        left: Sequence[str] = (),
        remove: str = "docker rm -f",
    ) -> None:
        self.app_id = app_id
        self.replica = replica
        self.why = why
        self.left = tuple(left)
        fix = leftovers(left, remove) or "All replicas of the app were removed."
        super().__init__(f"app {app_id!r}: replica {replica} did not start: {why}", fix=fix)


class LaunchInterruptedError(AirflowTorchXError):
    """The launch was interrupted before every replica started, and undone."""


class AppCancelledError(AirflowTorchXError):
    """The app was cancelled before it finished."""


class AirflowRequestError(AirflowTorchXError):
    """Airflow did not answer a request of the task, or refused it; the app is not affected.

    Args:
        what: the request and Airflow's message.
        status: the HTTP status of the API server; None without an answer.
    """

    def __init__(self, what: str, *, fix: str = "", status: int | None = None) -> None:
        self.status = status
        super().__init__(what, fix=fix)

    @property
    def is_replaced(self) -> bool:
        """Whether the API server no longer knows this attempt, because another one follows."""
        return self.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}


class WorkerShutdownError(AirflowTorchXError):
    """The task's process is shutting down; the app keeps running, and the next try reattaches."""


class ResultError(AirflowTorchXError):
    """The app succeeded, but the result file of replica 0 is missing or invalid."""


class CheckpointError(AirflowTorchXError):
    """The checkpoints of an app cannot be read from the object storage, or uploaded to it."""


class WaitTimeoutError(AirflowTorchXError, TimeoutError):
    """The app did not finish within the caller's timeout; it keeps running."""


class GpuWaitTimeoutError(WaitTimeoutError):
    """Not enough GPUs became free within ``gpu_wait_timeout_s``; nothing was launched.

    Args:
        waited_for: what the app waited for, and who held it.
        timeout_s: the limit, in seconds; None if it is unknown.
    """

    def __init__(self, waited_for: str, *, timeout_s: float | None = None) -> None:
        limit = "gpu_wait_timeout_s"
        if timeout_s is not None:
            limit = f"{timeout_s:.10g} s (gpu_wait_timeout_s)"
        fix = "Raise gpu_wait_timeout_s, or see who holds the GPUs: `airflow-torchx gpus`."
        super().__init__(f"gave up after {limit}, {waited_for}.", fix=fix)


class EngineError(AirflowTorchXError):
    """The Docker Engine refused a request.

    Args:
        what: the request and the Engine's message.
        fix: what to do.
        status: the HTTP status; None without an answer.
    """

    def __init__(self, what: str, *, fix: str = "", status: int | None = None) -> None:
        self.status = status
        super().__init__(what, fix=fix)


class EngineUnreachableError(EngineError):
    """The Docker Engine did not answer: no socket, no permission, or a timeout."""


class NodeUnreachableError(EngineUnreachableError):
    """The Docker Engine of a node of a swarm did not answer; the managers may."""


class EngineNotFoundError(EngineError):
    """The container, image or network does not exist (HTTP 404)."""


class EngineConflictError(EngineError):
    """The name is taken, or the object's state does not allow the request (HTTP 409)."""


class ImagePullError(EngineError):
    """An image could not be pulled."""


class ImageBuildError(EngineError):
    """A Dockerfile could not be built; the message has the failed step and its last lines."""


class ImagePushError(EngineError):
    """An image could not be pushed, or the registry could not be reached."""
