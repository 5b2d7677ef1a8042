"""Tests of the exceptions."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

from airflow_torchx import errors
from airflow_torchx.errors import (
    AirflowRequestError,
    AirflowTorchXError,
    AppCancelledError,
    AppExistsError,
    AppFailedError,
    AppNotFoundError,
    CheckpointError,
    ComponentError,
    ComponentNotFoundError,
    ConditionError,
    CudaOutOfMemoryError,
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
    FunctionError,
    GpuLostError,
    GpuWaitTimeoutError,
    ImageBuildError,
    ImagePullError,
    ImagePushError,
    InvalidAppError,
    InvalidComponentError,
    InvalidHandleError,
    InvalidOptionsError,
    LaunchError,
    LaunchInterruptedError,
    MissingOptionError,
    NodeUnreachableError,
    OutOfMemoryError,
    Problem,
    ReplicaLostError,
    ResourceNotFoundError,
    ResultError,
    SeveralProblemsError,
    StalledError,
    UsageError,
    WaitTimeoutError,
    WorkerShutdownError,
    WorkspaceError,
)

PROBLEMS = [
    Problem("roles[0].image", "no image is given", "name one"),
    Problem("name", "'' is not a valid name", "use printable characters"),
]
SAMPLES = [
    AirflowTorchXError("it broke: no disk.", fix="Buy one."),
    InvalidAppError(PROBLEMS, subject="app 'trainer'"),
    InvalidOptionsError(PROBLEMS, subject="run options"),
    MissingOptionError(PROBLEMS, subject="run options"),
    InvalidHandleError("x://"),
    UsageError("-cfg has no option 'nework'.", fix="Did you mean 'network'?"),
    ComponentError("no component 'dist.dpp'.", fix="Did you mean 'dist.ddp'?"),
    SeveralProblemsError(["--a is missing.", "--b is missing."]),
    ComponentNotFoundError("unknown component 'dist.dpp'.", fix="Did you mean 'dist.ddp'?"),
    InvalidComponentError("'f' is not a component.", fix="Annotate it."),
    ResourceNotFoundError("unknown named resource 'x'.", fix="Did you mean 'y'?"),
    FunctionError("function train() uses np.", fix="Import it."),
    ConditionError("no target state is given.", fix='Give one, like "SUCCEEDED".'),
    AppExistsError("trainer-x1"),
    AppNotFoundError("no app 'trainer-x1'.", fix="Launch it."),
    LaunchError("trainer-x1", "trainer/3", "no such device", left=["trainer-x1-trainer-0"]),
    LaunchInterruptedError(
        "launch of app 'x' was interrupted.", fix="All containers were removed."
    ),
    AppFailedError("trainer-x1", "app 'x' FAILED: it\ndid", exit_code=137, replica="trainer/1"),
    CudaOutOfMemoryError("x1", "app 'x' FAILED: it\ndid", rule="cuda_out_of_memory"),
    GpuLostError("x1", "app 'x' FAILED: it\ndid", exit_code=1, rule="gpu_lost"),
    OutOfMemoryError("trainer-x1", "app 'x' FAILED: it\ndid", exit_code=137, replica="trainer/1"),
    StalledError("trainer-x1", "app 'x' FAILED: it\ndid", exit_code=143, replica="trainer/1"),
    ReplicaLostError("trainer-x1", "app 'x' FAILED: it\ndid", replica="trainer/1"),
    AirflowRequestError("cannot push the XCom: not found.", fix="See the log.", status=404),
    WorkerShutdownError("worker is shutting down.", fix="The next try reattaches to it."),
    AppCancelledError("app 'x' was cancelled.", fix="Clear the task."),
    CheckpointError("cannot open s3://b, which is for checkpoints: denied.", fix="Check it."),
    ResultError("no file /result.json.", fix="Write it."),
    WaitTimeoutError("app 'x' has not ended.", fix="Wait longer."),
    GpuWaitTimeoutError("waiting for 2 GPUs on gpu-1: none is free", timeout_s=60),
    EngineError("create: no space left.", fix="Run docker system prune.", status=500),
    EngineUnreachableError("no answer from unix:///x.", fix="Start it."),
    NodeUnreachableError("no answer from tcp://box2.", fix="Set node_url."),
    EngineNotFoundError("no such image.", fix="Pull it.", status=404),
    EngineConflictError("the name is taken.", fix="Remove it.", status=409),
    ImagePullError("pull of 'x': denied.", fix="Log in.", status=403),
    ImageBuildError("step 2 of 3 failed.", fix="Fix it."),
    ImagePushError("push of 'x': denied.", fix="Log in.", status=403),
    WorkspaceError("workspace 'x' does not exist.", fix="Create it."),
]


class DerivedError(EngineError):
    """A user's subclass with its own arguments."""

    def __init__(self, disk: str, *, free_mib: int) -> None:
        self.disk = disk
        super().__init__(f"{disk} has {free_mib} MiB left.", fix="Clean up.", status=507)


def name_of(error: AirflowTorchXError) -> str:
    """Return the id of a sample."""
    return type(error).__name__


def public_errors() -> dict[str, type[AirflowTorchXError]]:
    """Return the public exception classes by name."""
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, AirflowTorchXError)
    }


def test_every_error_has_a_sample() -> None:
    """Every exception class has a sample in this module."""
    assert set(public_errors().values()) == {type(sample) for sample in SAMPLES}


def test_the_documented_tree_matches_the_classes() -> None:
    """The tree in the module docstring matches the class hierarchy."""
    parents: dict[str, str] = {}
    branch: list[str] = []
    for indent, name in re.findall(r"^( *)[*+-] (\w+)", str(errors.__doc__), re.MULTILINE):
        branch = [*branch[: len(indent) // 2], name]
        parents[name] = branch[-2] if len(branch) > 1 else "Exception"

    assert {name: error.__bases__[0].__name__ for name, error in public_errors().items()} == parents


@pytest.mark.parametrize(
    ("timeout_s", "limit"),
    [
        (60, "60 s (gpu_wait_timeout_s)"),
        (0.5, "0.5 s (gpu_wait_timeout_s)"),
        (30 * 86400.0, "2592000 s (gpu_wait_timeout_s)"),
        (None, "gpu_wait_timeout_s"),
    ],
)
def test_a_wait_for_gpus_says_how_long_it_was(timeout_s: float | None, limit: str) -> None:
    """The message has the seconds, also for weeks; a demand of an older release has none."""
    error = GpuWaitTimeoutError("waiting for 1 GPU on gpu-1: none is free", timeout_s=timeout_s)

    assert f"gave up after {limit}, waiting for 1 GPU" in str(error)


@pytest.mark.parametrize("error", SAMPLES, ids=name_of)
def test_the_text_says_what_and_how_to_fix(error: AirflowTorchXError) -> None:
    """The message starts with what happened and ends with what to do."""
    text = str(error)

    assert error.what
    assert text == (f"{error.what}\n{error.fix}" if error.fix else error.what)


@pytest.mark.parametrize("error", SAMPLES, ids=name_of)
@pytest.mark.parametrize(
    "duplicate",
    [
        pytest.param(lambda error: pickle.loads(pickle.dumps(error)), id="pickle"),  # noqa: S301 - our own bytes
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
    ],
)
def test_errors_survive_copying(error: AirflowTorchXError, duplicate: Any) -> None:  # noqa: ANN401 - one of three functions
    """A pickled or copied error keeps its type, its message and its attributes."""
    copied = duplicate(error)

    assert type(error) is type(copied)
    assert str(error) == str(copied)
    assert vars(error) == vars(copied)


def test_subclasses_of_users_can_be_pickled() -> None:
    """A user's subclass can be pickled, whatever arguments it takes."""
    copied = pickle.loads(pickle.dumps(DerivedError("/data", free_mib=3)))  # noqa: S301 - our own bytes

    assert ("/data has 3 MiB left.\nClean up.", "/data", 507) == (
        str(copied),
        copied.disk,
        copied.status,
    )


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (InvalidAppError, ValueError),
        (ComponentError, ValueError),
        (ResourceNotFoundError, KeyError),
        (MissingOptionError, KeyError),
        (AppNotFoundError, LookupError),
        (WaitTimeoutError, TimeoutError),
    ],
)
def test_errors_derive_from_builtin_exceptions(
    error: type[AirflowTorchXError], builtin: type[Exception]
) -> None:
    """Callers can catch these errors by their builtin base classes."""
    assert issubclass(error, builtin)


def test_an_invalid_app_lists_every_problem() -> None:
    """The message lists each problem on its own line, as where, what and fix."""
    assert (
        "invalid app 'trainer': 2 problems\n"
        "  - roles[0].image: no image is given; name one\n"
        "  - name: '' is not a valid name; use printable characters"
    ) == str(InvalidAppError(PROBLEMS, subject="app 'trainer'"))
    assert "invalid app: 1 problem\n" in str(InvalidAppError(PROBLEMS[:1]))


def test_a_failed_launch_lists_leftover_containers() -> None:
    """The error names the containers that could not be removed, and the command to remove them."""
    clean = LaunchError("x", "trainer/3", "no such device")
    dirty = LaunchError("x", "trainer/3", "no such device", left=["x-trainer-0", "x-trainer-1"])

    assert "app 'x': replica trainer/3 did not start: no such device" == clean.what == dirty.what
    assert "All replicas of the app were removed." == clean.fix
    assert "could not be removed. Run `docker rm -f x-trainer-0 x-trainer-1`." in dirty.fix


def test_an_existing_app_can_be_deleted_or_waited_for() -> None:
    """The error for an existing app suggests to delete it or to wait for it."""
    assert ("app 'x' already exists.\nDelete it first, or wait for it.") == str(AppExistsError("x"))


@pytest.mark.parametrize(
    ("status", "expected"), [(404, True), (410, True), (409, False), (500, False), (None, False)]
)
def test_an_attempt_that_airflow_does_not_know(status: int | None, *, expected: bool) -> None:
    """The statuses 404 and 410 mean that another attempt has replaced this one."""
    assert expected is AirflowRequestError("no.", status=status).is_replaced
