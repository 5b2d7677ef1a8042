"""A container in memory, with its runs, its state and Docker's status text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine.containers import ContainerDetail, ContainerEvent, ContainerRow
from airflow_torchx.core.engine.labels import RESERVED_PREFIXES, masked, without_masked
from airflow_torchx.core.engine.usage import ContainerUsage, Execution
from airflow_torchx.core.plan.gpu_problems import WITHOUT_GPU_DRIVER
from airflow_torchx.errors import EngineConflictError, EngineError, EngineNotFoundError
from airflow_torchx.testing.files import absolute, overlay, pack, read
from airflow_torchx.testing.output import NS_PER_S, Message, Output, to_datetime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_torchx.core.engine.containers import ContainerSpec
    from airflow_torchx.testing.files import Content
    from airflow_torchx.testing.images import FakeImage
    from airflow_torchx.testing.program import Program

_KILLED: Final = 137
_NOT_FOUND: Final = 127
_LIVE: Final = ("running", "restarting")
_MINUTE_S: Final = 60
_HOUR_S: Final = 60 * _MINUTE_S
_DAY_S: Final = 24 * _HOUR_S
_UNITS: Final = (
    (_MINUTE_S, 1, "second"),
    (_HOUR_S, _MINUTE_S, "minute"),
    (2 * _DAY_S, _HOUR_S, "hour"),
    (14 * _DAY_S, _DAY_S, "day"),
    (60 * _DAY_S, 7 * _DAY_S, "week"),
    (730 * _DAY_S, 30 * _DAY_S, "month"),
    (math.inf, 365 * _DAY_S, "year"),
)
_ONE: Final = {"second": "1 second", "minute": "About a minute", "hour": "About an hour"}


class Run:
    """One run of a container's main process; ``ends_ns`` is None while its end is open."""

    def __init__(self, program: Program, started_ns: int, floor_ns: int) -> None:
        self.program = program
        self.started_ns = started_ns
        self.output = Output(program, started_ns, floor_ns)
        self.exit_code = program.exit_code
        self.oom_killed = program.oom_killed
        self.ends_ns: int | None = None
        if program.runs_for_s is not None:
            planned_ns = started_ns + round(program.runs_for_s * NS_PER_S)
            self.ends_ns = max(planned_ns, self.output.last_ns)

    def is_running(self, now_ns: int) -> bool:
        """Return whether it runs at this time."""
        return self.ends_ns is None or self.ends_ns > now_ns

    def end(self, at_ns: int, exit_code: int, *, oom_killed: bool = False) -> None:
        """End it at a time, unless it ends earlier."""
        if self.is_running(at_ns):
            self.ends_ns = at_ns
            self.exit_code = exit_code
            self.oom_killed = oom_killed


class FakeContainer:
    """One container; its methods take the current time, which never decreases."""

    def __init__(
        self,
        container_id: str,
        spec: ContainerSpec,
        image: FakeImage,
        programs: Sequence[Program],
        now_ns: int,
    ) -> None:
        self.id = container_id
        self.name = spec.name
        self.spec = spec
        self.image = image
        #: Without the files of its programs.
        self.files = image.files
        self._error = ""
        self._programs = programs
        self._created_ns = now_ns
        self._runs: list[Run] = []
        #: Automatic restarts since the last `start`.
        self._restarts = 0
        self._stopped = False
        #: What `signal` has sent.
        self.signals: list[str] = []
        #: How often `terminate` has sent SIGTERM.
        self.sigterms = 0
        #: Number of starts and ends that `new_events` has returned.
        self._reported = 0

    @property
    def runs(self) -> int:
        """Return how often it was started, restarts included."""
        return len(self._runs)

    @property
    def role_replica(self) -> str:
        """Return its role and index, for example ``trainer/1``."""
        return f"{self.spec.role}/{self.spec.replica}"

    @property
    def labels(self) -> dict[str, str]:
        """Return its labels; of those of its image, it inherits what is not reserved."""
        own = {**self.image.labels, **masked(self.image.labels, self.spec.labels)}
        return without_masked(own)

    def start(self, now_ns: int, attach: Callable[[str], None], *, has_gpu_driver: bool) -> None:
        """Start it, unless it runs; ``attach`` raises if its network does not exist.

        Raises:
            EngineError: it cannot start; its state does not change.
        """
        if self.is_live(now_ns):
            return
        try:
            attach(self.spec.network)
            if self.spec.gpus and not has_gpu_driver:
                raise _without_gpu_driver(self.name, self.spec.gpus.driver)
            self._check_program()
        except EngineError as error:
            self._error = error.what
            raise
        self._restarts = 0
        self._stopped = False
        self._error = ""
        self._run(now_ns)

    def settle(self, now_ns: int) -> None:
        """Perform the automatic restarts that are due."""
        while (due_ns := self._due_ns()) is not None and due_ns <= now_ns:
            self._restarts += 1
            self._run(due_ns)

    def state(self, now_ns: int) -> str:
        """Return its state, as in Docker's API."""
        if not self._runs:
            return "created"
        if self._runs[-1].is_running(now_ns):
            return "running"
        return "exited" if self._due_ns() is None else "restarting"

    def is_live(self, now_ns: int) -> bool:
        """Return whether it runs, or will be restarted."""
        return self.state(now_ns) in _LIVE

    def terminate(self, now_ns: int, grace_s: float) -> None:
        """Send SIGTERM now, and SIGKILL after the grace period."""
        if self.is_live(now_ns):
            self._stopped = True
            self.sigterms += 1
            last = self._runs[-1]
            if last.program.on_term == "exit":
                last.end(now_ns, last.program.term_exit_code)
            else:
                last.end(now_ns + math.ceil(grace_s) * NS_PER_S, _KILLED)

    def signal(self, now_ns: int, name: str) -> None:
        """Send a signal to its current run; it is not restarted after the end of that run."""
        if not self._runs or not self._runs[-1].is_running(now_ns):
            return
        self._stopped = True
        self.signals.append(name)
        code = self._runs[-1].program.on_signal.get(name)
        if code is not None:
            self.end(now_ns, code)

    def kill(self, now_ns: int) -> None:
        """End it without any restart."""
        self._stopped = True
        self.end(now_ns, _KILLED)

    def end(self, now_ns: int, exit_code: int, *, oom_killed: bool = False) -> None:
        """End its current run."""
        if self._runs:
            self._runs[-1].end(now_ns, exit_code, oom_killed=oom_killed)

    def is_in_run(self, run: int, now_ns: int) -> bool:
        """Return whether the run with this index, from 0, is the current one and still runs."""
        return 0 <= run == len(self._runs) - 1 and self._runs[run].is_running(now_ns)

    def new_events(self, now_ns: int) -> Iterator[ContainerEvent]:
        """Yield the starts and ends of its runs since the last call."""
        happened = []
        for run in self._runs:
            happened.append(self.event("start", run.started_ns))
            if run.ends_ns is not None and not run.is_running(now_ns):
                happened.append(self.event("die", run.ends_ns, run.exit_code))
        yield from happened[self._reported :]
        self._reported = len(happened)

    def event(self, action: str, time_ns: int, exit_code: int | None = None) -> ContainerEvent:
        """Return an event of this container."""
        return ContainerEvent(
            container_id=self.id,
            name=self.name,
            labels={k: v for k, v in self.labels.items() if k.startswith(RESERVED_PREFIXES)},
            action=action,
            time_ns=time_ns,
            exit_code=exit_code,
        )

    def log(self, runs: int, now_ns: int) -> list[Message]:
        """Return what its first ``runs`` runs have written by now."""
        return [
            message
            for run in self._runs[:runs]
            for message in run.output.until(now_ns, run.ends_ns)
        ]

    def read_file(self, path: str, max_bytes: int) -> bytes:
        """Return a file of its image, an added file, or a file of its programs.

        Raises:
            EngineNotFoundError: there is no such file.
            ValueError: it is not a regular file.
            TooLargeError: it is larger than ``max_bytes``.
        """
        content = read(self._all_files(), path, max_bytes)
        if content is None:
            what = f"no file {path} in container {self.name}."
            raise EngineNotFoundError(what, fix="Add it to its Program.files.", status=404)
        return content

    def archive(self, path: str) -> bytes:
        """Return a tar of a file or a folder.

        Raises:
            EngineNotFoundError: it does not exist.
        """
        files = self._all_files()
        if absolute(path) not in files:
            what = f"no path {path} in container {self.name}."
            raise EngineNotFoundError(what, fix="Add it to its Program.files.", status=404)
        return pack(files, absolute(path))

    def _all_files(self) -> dict[str, Content]:
        """Return the files of its image, added ones, and those of its programs."""
        files = dict(self.files)
        for run in self._runs:
            files = overlay(
                files, {absolute(name): data for name, data in run.program.files.items()}
            )
        return files

    @property
    def written_bytes(self) -> int:
        """The size of all files that its programs have written."""
        written: dict[str, bytes | str] = {}
        for run in self._runs:
            written |= run.program.files
        return sum(map(len, written.values()))

    def usage(self, now_ns: int) -> ContainerUsage | None:
        """Return what it uses; None if it does not run."""
        if self.state(now_ns) != "running":
            return None
        run = self._runs[-1]
        return ContainerUsage(
            read_at=to_datetime(now_ns),
            cpu_ns=round((now_ns - run.started_ns) * run.program.cpus),
            memory_bytes=run.program.memory_bytes,
            memory_limit_bytes=(self.spec.memory_mib or 0) << 20 or None,
            received_bytes=0,
            sent_bytes=0,
        )

    def execute(self, command: Sequence[str], now_ns: int) -> Execution:
        """Return the end of a command in it.

        Raises:
            EngineConflictError: it does not run.
        """
        if self.state(now_ns) != "running":
            what = f"cannot run {command[0]} in container {self.name}: it does not run."
            raise EngineConflictError(what, fix="Start it first.", status=409)
        missing = f"OCI runtime exec failed: {command[0]!r}: executable file not found\n"
        known = self._runs[-1].program.commands
        code, output = known.get(command[0], (_NOT_FOUND, missing.encode()))
        return Execution(exit_code=code, output=output)

    def row(self, now_ns: int) -> ContainerRow:
        """Return its entry in the container list, whose times are whole seconds."""
        return ContainerRow(
            id=self.id,
            name=self.name,
            image=self.spec.image,
            state=self.state(now_ns),
            status=self._status(now_ns),
            labels=self.labels,
            created_at=to_datetime(self._created_ns // NS_PER_S * NS_PER_S),
            image_id=self.image.id,
        )

    def detail(self, now_ns: int) -> ContainerDetail:
        """Return the result of an inspect."""
        state = self.state(now_ns)
        last = self._runs[-1] if self._runs else None
        ended = last if state != "running" else None
        return ContainerDetail(
            id=self.id,
            state=state,
            exit_code=ended.exit_code if ended else None,
            oom_killed=ended is not None and ended.oom_killed,
            error=self._error,
            restarts=self._restarts + (state == "restarting"),
            started_at=to_datetime(last.started_ns) if last else None,
            finished_at=to_datetime(ended.ends_ns) if ended and ended.ends_ns is not None else None,
            gpus=(self.spec.gpus,) if self.spec.gpus else (),
            restart_policy="on-failure" if self.spec.max_restarts else "",
            max_restarts=self.spec.max_restarts,
            created_at=to_datetime(self._created_ns),
            nano_cpus=self.spec.nano_cpus,
            memory_bytes=(self.spec.memory_mib or 0) << 20 or None,
        )

    def _run(self, now_ns: int) -> None:
        floor_ns = 0
        if self._runs:
            last = self._runs[-1]
            floor_ns = last.output.floor_after(last.ends_ns or now_ns)
        self._runs.append(Run(self._program(), now_ns, floor_ns))

    def _program(self) -> Program:
        """Return the program of its next run."""
        return self._programs[min(len(self._runs), len(self._programs) - 1)]

    def _check_program(self) -> None:
        if error := self._program().start_error:
            raise EngineError(error, fix="Correct its Program.", status=400)

    def _due_ns(self) -> int | None:
        """Return when the daemon restarts it; None if it does not."""
        if not self._runs or self._stopped or self._restarts >= self.spec.max_restarts:
            return None
        last = self._runs[-1]
        if last.ends_ns is None or last.exit_code == 0:
            return None
        return last.ends_ns + round(last.program.restart_delay_s * NS_PER_S)

    def _status(self, now_ns: int) -> str:
        state = self.state(now_ns)
        if state == "created":
            return "Created"
        last = self._runs[-1]
        if state == "running":
            return f"Up {duration((now_ns - last.started_ns) / NS_PER_S)}"
        ended_ns = now_ns if last.ends_ns is None else last.ends_ns
        ago = duration((now_ns - ended_ns) / NS_PER_S)
        return f"{state.capitalize()} ({last.exit_code}) {ago} ago"


def _without_gpu_driver(name: str, driver: str) -> EngineError:
    capabilities = "[]" if driver == "cdi" else "[[gpu]]"
    why = f'could not select device driver "{driver}" with capabilities: {capabilities}'
    fix = f"{WITHOUT_GPU_DRIVER[0].upper()}{WITHOUT_GPU_DRIVER[1:]}."
    return EngineError(f"cannot start container {name!r}: {why}.", fix=fix, status=500)


def duration(seconds: float) -> str:
    """Return a duration in the format of Docker's status text.

    https://github.com/docker/go-units/blob/v0.5.0/duration.go
    """
    if seconds < 1:
        return "Less than a second"
    if seconds >= _HOUR_S:
        seconds = int(seconds / _HOUR_S + 0.5) * _HOUR_S
    unit_s, noun = next((unit_s, noun) for below_s, unit_s, noun in _UNITS if seconds < below_s)
    count = int(seconds // unit_s)
    return _ONE[noun] if count == 1 else f"{count} {noun}s"
