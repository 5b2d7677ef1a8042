"""Errors: what they tell, and that they travel between processes."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

from airflow_torchx import errors
from airflow_torchx.errors import (
    AirflowTorchXError,
    AppCancelledError,
    AppExistsError,
    AppFailedError,
    AppNotFoundError,
    ComponentError,
    ConditionError,
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
    FunctionError,
    ImageBuildError,
    ImagePullError,
    ImagePushError,
    InvalidAppError,
    LaunchError,
    LaunchInterruptedError,
    OutOfMemoryError,
    Problem,
    ReplicaLostError,
    ResultError,
    UsageError,
    WaitTimeoutError,
    WorkerShutdownError,
    WorkspaceError,
)

PROBLEMS = [
    Problem("roles[0].image", "no image is given", "name one"),
    Problem("name", "'' cannot name an app", "use a printable text"),
]
SAMPLES = [
    AirflowTorchXError("it broke: no disk.", fix="Buy one."),
    InvalidAppError(PROBLEMS, subject="app 'trainer'"),
    UsageError("-cfg has no option 'nework'.", fix="Did you mean 'network'?"),
    ComponentError("no component 'dist.dpp'.", fix="Did you mean 'dist.ddp'?"),
    FunctionError("function train() uses np.", fix="Import it."),
    ConditionError("there is no target state.", fix='For example "SUCCEEDED".'),
    AppExistsError("trainer-x1"),
    AppNotFoundError("no app 'trainer-x1'.", fix="Launch it."),
    LaunchError("trainer-x1", "trainer/3", "no such device", left=["trainer-x1-trainer-0"]),
    LaunchInterruptedError("app 'x' was told to stop.", fix="Nothing was left behind."),
    AppFailedError("trainer-x1", "app 'x' FAILED: it\ndid", exit_code=137, replica="trainer/1"),
    OutOfMemoryError("trainer-x1", "app 'x' FAILED: it\ndid", exit_code=137, replica="trainer/1"),
    ReplicaLostError("trainer-x1", "app 'x' FAILED: it\ndid", replica="trainer/1"),
    WorkerShutdownError("this worker is shut down.", fix="The next try takes it over."),
    AppCancelledError("app 'x' was cancelled.", fix="Clear the task."),
    ResultError("no file /result.json.", fix="Write it."),
    WaitTimeoutError("app 'x' has not ended.", fix="Wait longer."),
    EngineError("create: no space left.", fix="Run docker system prune.", status=500),
    EngineUnreachableError("no answer from unix:///x.", fix="Start it."),
    EngineNotFoundError("no such image.", fix="Pull it.", status=404),
    EngineConflictError("the name is taken.", fix="Remove it.", status=409),
    ImagePullError("pull of 'x': denied.", fix="Log in.", status=403),
    ImageBuildError("step 2 of 3 failed.", fix="Mend it."),
    ImagePushError("push of 'x': denied.", fix="Log in.", status=403),
    WorkspaceError("workspace 'x' does not exist.", fix="Create it."),
]


class HomeMadeError(EngineError):
    """An error somebody derived, with arguments of its own."""

    def __init__(self, disk: str, *, free_mib: int) -> None:
        self.disk = disk
        super().__init__(f"{disk} has {free_mib} MiB left.", fix="Clean up.", status=507)


def name_of(error: AirflowTorchXError) -> str:
    """Return the id of a sample."""
    return type(error).__name__


def public_errors() -> dict[str, type[AirflowTorchXError]]:
    """Return the classes of the tree, by name."""
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, AirflowTorchXError)
    }


def test_every_error_has_a_sample() -> None:
    """These tests look at every error there is."""
    assert set(public_errors().values()) == {type(sample) for sample in SAMPLES}


def test_the_picture_of_the_tree_is_true() -> None:
    """The tree in the module's docstring is the tree of the classes."""
    parents: dict[str, str] = {}
    branch: list[str] = []
    for indent, name in re.findall(r"^( *)[*+-] (\w+)", str(errors.__doc__), re.MULTILINE):
        branch = [*branch[: len(indent) // 2], name]
        parents[name] = branch[-2] if len(branch) > 1 else "Exception"

    assert {name: error.__bases__[0].__name__ for name, error in public_errors().items()} == parents


@pytest.mark.parametrize("error", SAMPLES, ids=name_of)
def test_the_text_says_what_and_how_to_fix(error: AirflowTorchXError) -> None:
    """What is printed begins with what happened and ends with what to do."""
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
def test_errors_travel(error: AirflowTorchXError, duplicate: Any) -> None:  # noqa: ANN401 - one of three functions
    """An error that went to another process has its type, its text and all its facts."""
    arrived = duplicate(error)

    assert type(error) is type(arrived)
    assert str(error) == str(arrived)
    assert vars(error) == vars(arrived)


def test_errors_of_users_travel() -> None:
    """A class that somebody derives pickles too, whatever arguments it takes."""
    arrived = pickle.loads(pickle.dumps(HomeMadeError("/data", free_mib=3)))  # noqa: S301 - our own bytes

    assert ("/data has 3 MiB left.\nClean up.", "/data", 507) == (
        str(arrived),
        arrived.disk,
        arrived.status,
    )


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (InvalidAppError, ValueError),
        (ComponentError, ValueError),
        (AppNotFoundError, LookupError),
        (WaitTimeoutError, TimeoutError),
    ],
)
def test_errors_are_what_python_calls_them(
    error: type[AirflowTorchXError], builtin: type[Exception]
) -> None:
    """Code that knows nothing of this package catches these as it catches Python's own."""
    assert issubclass(error, builtin)


def test_an_invalid_app_lists_every_problem() -> None:
    """Each problem has a line of its own: where, what, fix."""
    assert (
        "app 'trainer' cannot be run: 2 problems\n"
        "  - roles[0].image: no image is given; name one\n"
        "  - name: '' cannot name an app; use a printable text"
    ) == str(InvalidAppError(PROBLEMS, subject="app 'trainer'"))
    assert "app cannot be run: 1 problem\n" in str(InvalidAppError(PROBLEMS[:1]))


def test_a_failed_launch_tells_what_it_left() -> None:
    """Names of containers that could not be removed come with the command that removes them."""
    clean = LaunchError("x", "trainer/3", "no such device")
    dirty = LaunchError("x", "trainer/3", "no such device", left=["x-trainer-0", "x-trainer-1"])

    assert "app 'x': replica trainer/3 did not start: no such device" == clean.what == dirty.what
    assert "Nothing of the app was left behind." == clean.fix
    assert "x-trainer-0, x-trainer-1. Remove them with `docker rm -f`." in dirty.fix


def test_an_existing_app_tells_both_ways_out() -> None:
    """The app can be deleted, or waited on."""
    assert (
        "app 'x' already exists on this daemon.\nDelete it first, or wait on the app that is there."
    ) == str(AppExistsError("x"))
