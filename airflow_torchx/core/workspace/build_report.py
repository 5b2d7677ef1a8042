"""What a builder prints, line by line, and what to say when it fails; pure."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from airflow_torchx.core.engine import full_disk

if TYPE_CHECKING:
    from airflow_torchx.core.engine.images import BuildSpec

#: Lines of the step that failed, shown with the failure.
TAIL_LINES: Final = 20
_MAX_LINE_CHARS: Final = 1000
_MAX_OPEN_CHARS: Final = 65_536
_OUT_OF_MEMORY: Final = 137

_ESCAPES: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^_`-~])"
)
_CLASSIC_STEP: Final = re.compile(r"Step (\d+)/(\d+) : (.*)")
#: How the classic builder begins to speak of its own containers and layers.
CLASSIC_NOISE: Final = (" ---> ", "Removing intermediate container ")
_VERTEX: Final = re.compile(r"#(\d+) (.*)")
_VERTEX_END: Final = re.compile(r"#(\d+) \S+ .*?(?=#\1 (?:DONE \d|ERROR: |CANCELED))")
_VERTEX_STEP: Final = re.compile(r"\[([^\]]*\s)?\s*(\d+)/(\d+)\] (.*)")
_VERTEX_BASE: Final = re.compile(r"\[internal\] load metadata for (.*)")
_VERTEX_LINE: Final = re.compile(r"\d+\.\d+(?: (.*))?")
_VERTEX_ERROR: Final = re.compile(r"ERROR: (.*)")
_EXIT_CODE: Final = re.compile(r"exit code: (\d+)$")
#: Lines of the docker command line that give no reason.
_CLI_NOISE: Final = re.compile(r"(?:See|Run) '|View build details|-{3,}|DEPRECATED| > \[|\s*\d+ \|")
_PREFIXES: Final = re.compile(
    r"(?:(?:ERROR|error|failed to solve[^:]*|failed to create LLB definition"
    r"|rpc error: code = \w+ desc =):? )+"
)
_OLD_FRONTEND: Final = re.compile(r"unknown (?:instruction|flag)|parse error|unexpected key")

_BASE_ADVICE: Final = (
    "Check the name of the base image and that the daemon's host reaches its registry; if it is "
    "private, pull it there with a login first: `docker pull`."
)
#: From the builder's words to what can be done; the first that matches.
_ADVICE: Final = tuple(
    (re.compile(words, re.IGNORECASE), advice)
    for words, advice in (
        (
            "cannot locate specified dockerfile|failed to read dockerfile",
            "Check the path {dockerfile}; it starts at the root of the workspace.",
        ),
        (
            "unknown instruction|parse error|unknown flag|requires (?:exactly|at least|at most)",
            "Correct {dockerfile}.",
        ),
        ("build target|target stage", "Name as target one of its stages: FROM … AS name."),
        (
            r'not found in build context|failed to c\w+ (?:cache key|checksum)|^"/.*" not found',
            "Check the path, which starts at the root of the workspace, and .dockerignore.",
        ),
        (
            "parse secret",
            "Write a secret as id=NAME,src=PATH or id=NAME,env=VARIABLE, of what is there.",
        ),
        (
            "connect to the docker daemon|docker daemon socket",
            "Check with `docker version` that the docker command line reaches the daemon.",
        ),
    )
)


class Step(NamedTuple):
    """One step of a Dockerfile.

    Args:
        where: like ``step 2 of 3``.
        command: the instruction.
    """

    where: str
    command: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a build failed.

    Args:
        reason: the builder's own words.
        step: the step that failed; None if it was none.
        exit_code: of its command; None if it has none.
        last_lines: what that step printed last.
    """

    reason: str
    step: Step | None = None
    exit_code: int | None = None
    last_lines: tuple[str, ...] = ()


class TextLines:
    """Makes lines, as a terminal would show them but without colours, of text in pieces."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> list[str]:
        """Return the lines that end in this piece."""
        *whole, self._rest = (self._rest + text).split("\n")
        if len(self._rest) > _MAX_OPEN_CHARS:
            whole.append(self._rest)
            self._rest = ""
        return [_plain(line) for line in whole]

    def flush(self) -> list[str]:
        """Return the unfinished line, if there is one."""
        rest, self._rest = self._rest, ""
        return [_plain(rest)] if rest else []


class ClassicLog:
    """Follows what the classic builder prints."""

    def __init__(self) -> None:
        self._step: Step | None = None
        self._number = 0
        self._total = ""
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    def add(self, line: str) -> None:
        """Take one line."""
        if (match := _CLASSIC_STEP.fullmatch(line)) and self._is_next(match):
            self._number, self._total = int(match[1]), match[2]
            self._step = Step(f"step {match[1]} of {match[2]}", match[3])
            self._tail.clear()
        elif line and not line.startswith(CLASSIC_NOISE):
            self._tail.append(line[:_MAX_LINE_CHARS])

    def failure(self, reason: str, exit_code: int | None) -> Failure:
        """Return what failed, now that the builder has given its reason."""
        lines = tuple(self._tail)
        return Failure(reason=reason, step=self._step, exit_code=exit_code, last_lines=lines)

    def _is_next(self, match: re.Match[str]) -> bool:
        # A command may print such a line too.
        return int(match[1]) == self._number + 1 and match[2] == (self._total or match[2])


@dataclass(slots=True)
class _Vertex:
    step: Step | None = None
    error: str | None = None
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))


class BuildKitLog:
    """Follows what BuildKit prints as plain progress, where steps run at the same time."""

    def __init__(self) -> None:
        self._vertices: dict[str, _Vertex] = {}
        self._reason = ""

    @staticmethod
    def split(line: str) -> list[str]:
        """Return a line as what it should be: Docker 20.10 ends no unfinished line of a command."""
        match = _VERTEX_END.match(line)
        return [match[0], line[match.end() :]] if match else [line]

    def add(self, line: str) -> None:
        """Take one line that was split."""
        if match := _VERTEX.fullmatch(line):
            self._add(self._vertices.setdefault(match[1], _Vertex()), match[2])
        elif line and not _CLI_NOISE.match(line):
            self._reason = line[:_MAX_LINE_CHARS]

    def failure(self) -> Failure:
        """Return what failed, after the last line."""
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
            if match[1] and vertex.error is None:  # at the end the last lines are said once more
                vertex.tail.append(match[1][:_MAX_LINE_CHARS])
        elif match := _VERTEX_STEP.fullmatch(text):
            vertex.step = Step(f"step {match[2]} of {match[3]}{_of_stage(match[1])}", match[4])
        elif match := _VERTEX_BASE.fullmatch(text):
            vertex.step = Step("its base image", f"FROM {match[1]}")
        elif match := _VERTEX_ERROR.fullmatch(text):
            vertex.error = match[1][:_MAX_LINE_CHARS]


def explain(spec: BuildSpec, failure: Failure) -> tuple[str, str]:
    """Return what happened to a build, and what to do about it.

    Args:
        spec: what was built.
        failure: how it failed.
    """
    head = f"cannot build image {spec.tag!r}"
    step, reason = failure.step, failure.reason.strip().rstrip(".") or "no reason given"
    lines = [f"{head}: {reason}."]
    if step:
        command = step.command[:_MAX_LINE_CHARS]
        lines = [f"{head}: {step.where} failed: {command}", f"{reason}."]
        if failure.exit_code is not None:
            lines = [f"{head}: {step.where} failed with exit code {failure.exit_code}: {command}"]
    if failure.last_lines:
        lines += ["its last lines:", *(f"  {line}" for line in failure.last_lines)]
    return "\n".join(lines), _advice(spec, failure)


def _advice(spec: BuildSpec, failure: Failure) -> str:
    if spec.buildkit and _OLD_FRONTEND.search(failure.reason):
        return (
            f"Correct {spec.dockerfile!r}; if it is right, the daemon's BuildKit is too old for "
            f"{spec.buildkit}: begin it with `# syntax=docker/dockerfile:1`, or upgrade Docker."
        )
    if any(full_disk.is_disk_full(line) for line in (failure.reason, *failure.last_lines)):
        return full_disk.ADVICE
    if failure.exit_code == _OUT_OF_MEMORY:
        return "137 mostly means out of memory: give the daemon's host more, or build with less."
    if failure.exit_code is None:
        for words, advice in _ADVICE:
            if words.search(failure.reason):
                return advice.format(dockerfile=repr(spec.dockerfile))
        if failure.step and failure.step.command.upper().startswith("FROM "):
            return _BASE_ADVICE
    return f"Correct that step of {spec.dockerfile!r}, or what it needs, and build again."


def _of_stage(name: str | None) -> str:
    return f" of stage {name.strip()!r}" if name and name.strip() else ""


def _plain(line: str) -> str:
    """Return what a terminal shows of a line last, without colours."""
    return _ESCAPES.sub("", line).rstrip("\r").rpartition("\r")[2]
