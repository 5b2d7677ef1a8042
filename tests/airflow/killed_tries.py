"""Tries of the example of a resumable training, in processes that a test kills.

As a script, it is a worker: a process whose only child executes one try.
"""

from __future__ import annotations

import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from airflow.sdk import BaseOperator

from tests.airflow.processes import is_alive, until
from tests.airflow.supervisor import Supervisor

if TYPE_CHECKING:
    from types import TracebackType

_DAG: Final = Path(__file__).parents[2] / "dags" / "resumable_training.py"
_TASK_ID: Final = "train"
_RETRIES: Final = 3


class Tries:
    """Starts and kills the tries of one task instance, whose XComs and state store last.

    Args:
        run_id: the DAG run.
        folder: where the replicas keep their checkpoints; next to it is what the tries write.
        steps: how long to train.
        save_every: after how many steps the replicas save.
    """

    def __init__(self, run_id: str, folder: Path, *, steps: int, save_every: int) -> None:
        self._args = (run_id, str(folder), str(steps), str(save_every))
        self._airflow = Supervisor(BaseOperator(task_id=_TASK_ID), run_id=run_id)
        self._log = folder.with_suffix(".log")
        self._workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            # A task that has lost its worker ends on its own.
            worker.kill()
            worker.wait()

    @property
    def text(self) -> str:
        """What the tries have written, the lines of their replicas included."""
        return self._log.read_text(errors="replace")

    @property
    def xcoms(self) -> dict[str, Any]:
        """What they have pushed."""
        return self._airflow.xcoms

    def start(self) -> None:
        """Start a worker with the next try."""
        number = len(self._workers) + 1
        ours, theirs = socket.socketpair()
        with theirs, self._log.open("ab") as log:
            words = [sys.executable, "-m", __name__, str(theirs.fileno()), str(number)]
            worker = subprocess.Popen(
                [*words, *self._args], pass_fds=[theirs.fileno()], stdout=log, stderr=log
            )
        self._workers.append(worker)
        threading.Thread(target=self._answer, args=(ours,), daemon=True).start()

    def _answer(self, channel: socket.socket) -> None:
        with channel:
            self._airflow.answer_all(channel)

    def wait_for(self, pattern: str, start: int = 0) -> None:
        """Wait until a try has written a text, after what was there before."""
        until(lambda: re.search(pattern, self.text[start:]), f"{pattern} in {self._log}")

    def kill_task(self) -> None:
        """End the process of the try with SIGKILL."""
        os.kill(self._task(), signal.SIGKILL)
        assert -signal.SIGKILL == self.wait()

    def kill_worker(self) -> None:
        """End the worker with SIGKILL, and wait until its task has ended on its own."""
        task = self._task()
        self._workers[-1].kill()
        until(lambda: not is_alive(task), "the end of the task")

    def wait(self) -> int:
        """Return the exit code of the try, once it has ended."""
        return self._workers[-1].wait()

    def _task(self) -> int:
        pid = self._workers[-1].pid
        (task,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(task)


def _execute(channel: int, number: int, run_id: str, folder: str, *steps: str) -> int:
    """Execute one try; return 0 if it succeeds."""
    dag = runpy.run_path(str(_DAG))["dag"]
    task = dag.get_task(_TASK_ID)
    task.params["steps"], save_every = map(int, steps)
    task.checkpoint = folder
    task.component_args = [*task.component_args, "--save-every", f"{save_every}", "--step-s", "0.1"]
    supervisor = Supervisor(task, max_tries=_RETRIES, run_id=run_id)
    with socket.socket(fileno=channel) as connection:
        ended = supervisor.execute(connection, number)
    return int(ended.report != "SucceedTask")


def _main(channel: str, number: str, *args: str) -> int:
    if child := os.fork():
        os.close(int(channel))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return _execute(int(channel), int(number), *args)


if __name__ == "__main__":
    code = _main(*sys.argv[1:])
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)
