"""Parses the output of image builds, and explains failures."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from airflow_torchx.core.engine import full_disk

if TYPE_CHECKING:
    from airflow_torchx.core.engine.images import BuildSpec

#: How many lines of the failed step to show.
TAIL_LINES: Final = 20
_MAX_LINE_CHARS: Final = 1000
_MAX_OPEN_CHARS: Final = 65_536
_OUT_OF_MEMORY: Final = 137

_ESCAPES: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^_`-~])"
)
_CLASSIC_STEP: Final = re.compile(r"Step (\d+)/(\d+) : (.*)")
#: Prefixes of the classic builder's lines about its containers and layers.
CLASSIC_NOISE: Final = (" ---> ", "Removing intermediate container ")
_VERTEX: Final = re.compile(r"#(\d+) (.*)")
_VERTEX_END: Final = re.compile(r"#(\d+) \S+ .*?(?=#\1 (?:DONE \d|ERROR: |CANCELED))")
_VERTEX_STEP: Final = re.compile(r"\[([^\]]*\s)?\s*(\d+)/(\d+)\] (.*)")
_VERTEX_BASE: Final = re.compile(r"\[internal\] load metadata for (.*)")
_VERTEX_LINE: Final = re.compile(r"\d+\.\d+(?: (.*))?")
_VERTEX_ERROR: Final = re.compile(r"ERROR: (.*)")
_EXIT_CODE: Final = re.compile(r"exit code: (\d+)$")
#: Lines of the docker command line that do not explain a failure.
_CLI_NOISE: Final = re.compile(r"(?:See|Run) '|View build details|-{3,}|DEPRECATED| > \[|\s*\d+ \|")
_PREFIXES: Final = re.compile(
    r"(?:(?:ERROR|error|failed to solve[^:]*|failed to create LLB definition"
    r"|rpc error: code = \w+ desc =):? )+"
)
_OLD_FRONTEND: Final = re.compile(r"unknown (?:instruction|flag)|parse error|unexpected key")

_BASE_ADVICE: Final = (
    "Check the name of the base image, and that the daemon can reach its registry; log in and pull "
    "a private image there first: `docker pull`."
)
#: Pattern of the builder's message, and advice; the first match counts.
_ADVICE: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), advice)
    for pattern, advice in (
        (
            "cannot locate specified dockerfile|failed to read dockerfile",
            "Check the path {dockerfile}, which is relative to the workspace.",
        ),
        (
            "unknown instruction|parse error|unknown flag|requires (?:exactly|at least|at most)",
            "Correct {dockerfile}.",
        ),
        ("build target|target stage", "Set target to one of its stages: FROM … AS name."),
        (
            r'not found in build context|failed to c\w+ (?:cache key|checksum)|^"/.*" not found',
            "Check the path, which is relative to the workspace, and .dockerignore.",
        ),
        (
            "parse secret",
            "Write a secret as id=NAME,src=PATH or id=NAME,env=VARIABLE; the source must exist.",
        ),
        (
            "connect to the docker daemon|docker daemon socket",
            "Check that `docker version` reaches the daemon.",
        ),
    )
)


class Step(NamedTuple):
    """One instruction of a Dockerfile; ``where`` is like ``step 2 of 3``."""

    where: str
    command: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a build failed.

    Args:
        reason: the builder's message.
        step: the step that failed; None if no step did.
        exit_code: exit code of its command, if known.
        last_lines: last lines that the step printed.
    """

    reason: str
    step: Step | None = None
    exit_code: int | None = None
    last_lines: tuple[str, ...] = ()


class TextLines:
    """Splits text chunks into lines, as a terminal shows them but without colours."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> list[str]:
        """Return the lines that end in this chunk."""
        *whole, self._rest = (self._rest + text).split("\n")
        if len(self._rest) > _MAX_OPEN_CHARS:
            whole.append(self._rest)
            self._rest = ""
        return [_plain(line) for line in whole]

    def flush(self) -> list[str]:
        """Return the unfinished line, if any."""
        rest, self._rest = self._rest, ""
        return [_plain(rest)] if rest else []


class ClassicLog:
    """Parses the output of the classic builder."""

    def __init__(self) -> None:
        self._step: Step | None = None
        self._number = 0
        self._total = ""
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    def add(self, line: str) -> None:
        """Parse one line."""
        if (match := _CLASSIC_STEP.fullmatch(line)) and self._is_next(match):
            self._number, self._total = int(match[1]), match[2]
            self._step = Step(f"step {match[1]} of {match[2]}", match[3])
            self._tail.clear()
        elif line and not line.startswith(CLASSIC_NOISE):
            self._tail.append(line[:_MAX_LINE_CHARS])

    def failure(self, reason: str, exit_code: int | None) -> Failure:
        """Return the failure, given the builder's reason."""
        lines = tuple(self._tail)
        return Failure(reason=reason, step=self._step, exit_code=exit_code, last_lines=lines)

    def _is_next(self, match: re.Match[str]) -> bool:
        # A command can print a line that looks like a step.
        return int(match[1]) == self._number + 1 and match[2] == (self._total or match[2])


@dataclass(slots=True)
class _Vertex:
    step: Step | None = None
    error: str | None = None
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))


class BuildKitLog:
    """Parses BuildKit's plain progress, in which the lines of concurrent steps are mixed."""

    def __init__(self) -> None:
        self._vertices: dict[str, _Vertex] = {}
        self._reason = ""

    @staticmethod
    def split(line: str) -> list[str]:
        """Split a line in two where Docker 20.10 omits the line break after a command's output."""
        match = _VERTEX_END.match(line)
        return [match[0], line[match.end() :]] if match else [line]

    def add(self, line: str) -> None:
        """Parse one line from `split`."""
        if match := _VERTEX.fullmatch(line):
            self._add(self._vertices.setdefault(match[1], _Vertex()), match[2])
        elif line and not _CLI_NOISE.match(line):
            self._reason = line[:_MAX_LINE_CHARS]

    def failure(self) -> Failure:
        """Return the failure, after the last line."""
        failed = [v for v in self._vertices.values() if v.error and "canceled" not in v.error]
        with_step = [vertex for vertex in failed if vertex.step]
        if not with_step:
            return Failure(reason=_PREFIXES.sub("", self._reason, count=1))
        vertex = with_step[0]
        reason = str(vertex.error)
        code = _EXIT_CODE.search(reason)
        return Failure(
            reason=reason,
            step=vertex.step,
            exit_code=int(code[1]) if code else None,
            last_lines=tuple(vertex.tail),
        )

    @staticmethod
    def _add(vertex: _Vertex, text: str) -> None:
        if match := _VERTEX_LINE.fullmatch(text):
            if match[1] and vertex.error is None:  # BuildKit repeats the last lines at the end
                vertex.tail.append(match[1][:_MAX_LINE_CHARS])
        elif match := _VERTEX_STEP.fullmatch(text):
            stage = (match[1] or "").strip()
            of_stage = f" of stage {stage!r}" if stage else ""
            vertex.step = Step(f"step {match[2]} of {match[3]}{of_stage}", match[4])
        elif match := _VERTEX_BASE.fullmatch(text):
            vertex.step = Step("its base image", f"FROM {match[1]}")
        elif match := _VERTEX_ERROR.fullmatch(text):
            vertex.error = match[1][:_MAX_LINE_CHARS]


def explain(spec: BuildSpec, failure: Failure) -> tuple[str, str]:
    """Return the error message of a failed build, and what to do."""
    head = f"cannot build image {spec.tag!r}"
    step, reason = failure.step, failure.reason.strip().rstrip(".") or "the builder gave no reason"
    lines = [f"{head}: {reason}."]
    if step:
        command = step.command[:_MAX_LINE_CHARS]
        lines = [f"{head}: {step.where} failed: {command}", f"{reason}."]
        if failure.exit_code is not None:
            lines = [f"{head}: {step.where} failed with exit code {failure.exit_code}: {command}"]
    if failure.last_lines:
        lines += ["last lines:", *(f"  {line}" for line in failure.last_lines)]
    return "\n".join(lines), _advice(spec, failure)


def _advice(spec: BuildSpec, failure: Failure) -> str:
    if spec.buildkit and _OLD_FRONTEND.search(failure.reason):
        return (
            f"Correct {spec.dockerfile!r}. If it is correct, the daemon's BuildKit is too old for "
            f"{spec.buildkit}: start it with `# syntax=docker/dockerfile:1`, or upgrade Docker."
        )
    if any(full_disk.is_disk_full(line) for line in (failure.reason, *failure.last_lines)):
        return full_disk.ADVICE
    if failure.exit_code == _OUT_OF_MEMORY:
        return "137 usually means out of memory: use less, or add memory to the daemon's host."
    if failure.exit_code is None:
        for pattern, advice in _ADVICE:
            if pattern.search(failure.reason):
                return advice.format(dockerfile=repr(spec.dockerfile))
        if failure.step and failure.step.command.upper().startswith("FROM "):
            return _BASE_ADVICE
    return f"Correct that step of {spec.dockerfile!r}, or the files that it needs."


def _plain(line: str) -> str:
    """Return what a terminal finally shows of a line, without colours."""
    return _ESCAPES.sub("", line).rstrip("\r").rpartition("\r")[2]
