"""Tests the function runner in a local folder instead of a container."""

from __future__ import annotations

import ast
import json
import os
import runpy
import subprocess
import sys
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

from airflow_torchx.core.state.worker_failure import worker_failure
from airflow_torchx.function.call import Call
from airflow_torchx.function.source import FunctionSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUNNER: Final = resources.files("airflow_torchx.function").joinpath("runner.py").read_text("utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs another one as a container would, in a workspace."""

    def _run(
        function: Callable[..., Any],
        *args: Any,  # noqa: ANN401 - any JSON
        environ: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        source = FunctionSource.of(function)
        result = str(tmp_path / "new" / "result.json")
        call = Call.of(function, args, {}).env(source, file="dags/x.py", result_path=result)
        folder = tmp_path / ".airflow-torchx"
        folder.mkdir()
        folder.joinpath("run.py").write_text(RUNNER)
        folder.joinpath(f"function-{source.name}.py").write_text(source.text)
        tmp_path.joinpath("mine.py").write_text("NAME = 'mine'")
        return subprocess.run(
            [sys.executable, ".airflow-torchx/run.py"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "TORCHX_REPLICA_IDX": "0", **call, **(environ or {})},
            check=False,
            capture_output=True,
            text=True,
        )

    return _run


def test_runner_supports_python_3_8() -> None:
    """The runner parses as Python 3.8, since images may have an older Python than Airflow."""
    assert ast.parse(RUNNER, feature_version=(3, 8))


def test_result_is_written(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """The function gets its arguments and its workspace, but no variables of the call."""

    def double(number: Unknown, *more: int) -> Missing:  # type: ignore[name-defined] # noqa: F821
        import os
        from dataclasses import dataclass

        import mine  # type: ignore[import-not-found]

        @dataclass
        class Twice:
            of: int

            def value(self) -> int:
                return 2 * self.of

        variables = sorted(name for name in os.environ if name.startswith("AIRFLOW"))
        return [Twice(number).value(), more, mine.NAME, variables]

    done = run(double, 2, 3, 4)

    assert ("", 0) == (done.stderr, done.returncode)
    assert [4, [3, 4], "mine", []] == json.loads((tmp_path / "new/result.json").read_text())


def test_annotations_are_not_evaluated(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Annotations with names of the user's module are not evaluated in the container."""
    file = tmp_path / "eager.py"
    file.write_text(
        "import pathlib\n"
        "def go(n: pathlib.Path, /, *m: pathlib.Path, k: pathlib.Path = 1, **o: pathlib.Path"
        ") -> pathlib.Path:\n"
        "    return [n, k]\n"
    )

    done = run(runpy.run_path(str(file))["go"], 2)

    assert ("", 0) == (done.stderr, done.returncode)
    assert [2, 1] == json.loads((tmp_path / "new/result.json").read_text())


@pytest.mark.parametrize("environ", [{"TORCHX_REPLICA_IDX": "1"}, {"LOCAL_RANK": "1"}])
def test_only_one_process_writes(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, environ: dict[str, str]
) -> None:
    """Processes other than the first of replica 0 write no result, and may return anything."""

    def go() -> object:
        return object()

    assert 0 == run(go, environ=environ).returncode
    assert not tmp_path.joinpath("new").exists()


def test_error_shows_the_users_own_lines(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """A traceback shows file, line and text of the DAG file, without the runner's frames."""

    def train(loss: float) -> NoReturn:
        # A comment between.
        message = f"loss is {loss}"
        raise ValueError(message)

    line = train.__code__.co_firstlineno + 3
    done = run(train, 3)

    assert 1 == done.returncode
    lines = [text for text in done.stderr.splitlines() if set(text) - set(" ^~")]
    assert [
        "Traceback (most recent call last):",
        f'  File "dags/x.py", line {line}, in train',
        "    raise ValueError(message)",
        "ValueError: loss is 3",
    ] == lines


@pytest.mark.parametrize("place", ["error.json", "missing/error.json"])
def test_an_error_is_recorded(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, place: str
) -> None:
    """The error is in the file that torchrun or we read, with the user's own lines."""

    def train() -> NoReturn:
        message = "loss is\nNaN"
        raise ValueError(message)

    done = run(train, environ={"TORCHELASTIC_ERROR_FILE": str(tmp_path / place)})

    assert 1 == done.returncode
    assert done.stderr.endswith("ValueError: loss is\nNaN\n")
    if (tmp_path / place).parent == tmp_path:
        failure = worker_failure((tmp_path / place).read_text(), [], None)
        assert failure is not None
        assert "ValueError: loss is\nNaN" == failure.message
        assert failure.traceback.startswith("Traceback (most recent call last):\n  File ")
        assert "run.py" not in failure.traceback


def test_result_that_is_not_json(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """The error shows the type that was returned, and what to return instead."""

    def go() -> object:
        return {"loss": float("nan")}

    done = run(go)

    assert 1 == done.returncode
    assert done.stderr.startswith("TypeError: go() returned a dict that is not JSON: ")
    assert "for a tensor, its item()" in done.stderr


def test_exit_code_is_the_functions_own(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """The runner exits with the function's own exit code, so it can skip its task."""

    def go() -> NoReturn:
        import sys

        sys.exit(7)

    assert 7 == run(go).returncode
