"""Tests of parsing build output and explaining failures."""

from __future__ import annotations

from typing import Final

import pytest

from airflow_torchx.core.engine.images import BuildSpec
from airflow_torchx.core.workspace.build_report import (
    TAIL_LINES,
    BuildKitLog,
    ClassicLog,
    Failure,
    Step,
    TextLines,
    explain,
)

SPEC: Final = BuildSpec(tag="a:1", dockerfile="D")


def buildkit(text: str) -> Failure:
    """Return BuildKit's failure."""
    log = BuildKitLog()
    for line in text.splitlines():
        for part in log.split(line):
            log.add(part)
    return log.failure()


def classic(text: str, reason: str = "why", exit_code: int | None = None) -> Failure:
    """Return the classic builder's failure."""
    log = ClassicLog()
    for line in text.splitlines():
        log.add(line)
    return log.failure(reason, exit_code)


def test_text_becomes_lines() -> None:
    """Lines may span chunks, lose their colours, and show what a terminal finally shows."""
    lines = TextLines()

    assert [] == lines.feed("a")
    assert ["ab", "", "c"] == lines.feed("b\n\n\x1b[1;31mc\x1b[0m\x1b(B\x1b]0;title\x07\n1 %\r2")
    assert ["2 %", "d"] == lines.feed(" %\nd\r\n")
    assert [] == lines.flush()
    lines.feed("e")
    assert ["e"] == lines.flush()
    assert [] == lines.flush()


def test_a_line_without_an_end() -> None:
    """A line without an end is not kept in memory as a whole."""
    lines = TextLines()

    found = [line for _ in range(100) for line in lines.feed("x" * 10_000)]

    assert 1_000_000 == len("".join([*found, *lines.flush()]))
    assert max(map(len, found)) < 100_000


def test_the_failed_step_of_the_classic_builder() -> None:
    """The last step has failed, and a command's output that looks like a step is not one."""
    log = (
        "Step 1/3 : FROM a\n ---> 1\nStep 2/3 : RUN b\nearlier\n"
        "Step 3/3 : RUN c\n ---> Running in 1\nStep 1/9 : FROM z\nStep 4/9 : x\n\nlast\n"
        "Removing intermediate container 1\n"
    )

    failure = classic(log, "returned a non-zero code: 3", 3)

    assert (
        Failure(
            reason="returned a non-zero code: 3",
            step=Step("step 3 of 3", "RUN c"),
            exit_code=3,
            last_lines=("Step 1/9 : FROM z", "Step 4/9 : x", "last"),
        )
        == failure
    )
    assert Failure(reason="why") == classic("")


def test_last_lines_are_limited() -> None:
    """The number and the length of a step's last lines are limited."""
    failure = classic("Step 1/1 : RUN a\n" + f"{'x' * 5000}\n" * 50)

    assert TAIL_LINES == len(failure.last_lines)
    assert len(explain(SPEC, failure)[0]) < 25_000


OLD: Final = """\
#1 [internal] load remote build context
#1 sha256:ea1b
#1 DONE 0.0s

#6 [base 1/2] FROM docker.io/library/a:1
#6 CACHED
#4 [base 2/2] RUN echo one; exit 3
#5 [other 1/1] RUN sleep 9
#4 0.196 one
#5 0.2 not mine
#4 0.197
#5 CANCELED
#4 0.256 last line#4 ERROR: executor failed running [/bin/sh -c echo one; exit 3]: exit code: 3
------
 > [base 2/2] RUN echo one; exit 3:
#4 0.256 last line
------
executor failed running [/bin/sh -c echo one; exit 3]: exit code: 3
"""
NEW: Final = """\
#0 building with "default" instance using docker driver

#5 [linux/amd64  2/10] RUN echo one; exit 3
#5 0.196 one
#5 ERROR: process "/bin/sh -c echo one; exit 3" did not complete successfully: exit code: 3
#6 ERROR: context canceled
------
 > [ 2/10] RUN echo one; exit 3:
0.196 one
------
Dockerfile:2
--------------------
   1 |     FROM a
   2 | >>> RUN echo one; exit 3
--------------------
ERROR: failed to solve: process "/bin/sh -c echo one; exit 3" did not complete successfully: \
exit code: 3
"""


def test_the_failed_step_of_buildkit() -> None:
    """The step with an error has failed, whatever other steps run at the same time."""
    old, new = buildkit(OLD), buildkit(NEW)

    assert Step("step 2 of 2 of stage 'base'", "RUN echo one; exit 3") == old.step
    assert (3, ("one", "last line")) == (old.exit_code, old.last_lines)
    assert Step("step 2 of 10 of stage 'linux/amd64'", "RUN echo one; exit 3") == new.step
    assert (3, ("one",)) == (new.exit_code, new.last_lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "failed to solve with frontend dockerfile.v0: failed to create LLB definition: why",
            "why",
        ),
        (
            "ERROR: failed to solve: why: because\n\nView build details: docker-desktop://x",
            "why: because",
        ),
        ("error: failed to solve: rpc error: code = Unknown desc = why", "why"),
        ("invalid argument\nSee 'docker build --help'.", "invalid argument"),
        ("", ""),
    ],
)
def test_the_reason_of_buildkit(text: str, expected: str) -> None:
    """Without a failed step, the last line with a reason is the failure."""
    assert Failure(reason=expected) == buildkit(text)


def test_a_missing_base_image() -> None:
    """A missing base image is reported as the FROM instruction."""
    failure = buildkit(
        "#3 [internal] load metadata for docker.io/x/y:1\n#3 ERROR: no such host\n"
        "ERROR: failed to solve: no such host"
    )

    what, fix = explain(SPEC, failure)

    assert (
        "cannot build image 'a:1': its base image failed: FROM docker.io/x/y:1\nno such host."
        == what
    )
    assert "docker pull" in fix


def test_a_failed_command() -> None:
    """A failed command is reported with its exit code and its last lines."""
    what, fix = explain(SPEC, classic("Step 1/1 : RUN a\none\ntwo", "non-zero", 3))

    assert (
        "cannot build image 'a:1': step 1 of 1 failed with exit code 3: RUN a\n"
        "last lines:\n  one\n  two"
    ) == what
    assert "Correct that step of 'D', or the files that it needs." == fix


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("write /x: no space left on device", "docker system df"),
        ("Cannot locate specified Dockerfile: D", "Check the path 'D'"),
        ("failed to read dockerfile: open D: no such file", "Check the path 'D'"),
        ("dockerfile parse error line 3: unknown instruction: ECHO", "Correct 'D'."),
        ("failed to reach build target x in Dockerfile", "FROM … AS name"),
        ("target stage x could not be found", "FROM … AS name"),
        ("COPY failed: file not found in build context or excluded", ".dockerignore"),
        ('failed to compute cache key: "/x" not found: not found', ".dockerignore"),
        ('"/nofile" not found: not found', ".dockerignore"),
        ("failed to calculate checksum of ref a::b", ".dockerignore"),
        ("could not parse secrets: [x]", "id=NAME"),
        ("Cannot connect to the Docker daemon at x", "docker version"),
        ("something else", "Correct that step"),
        ("", "Correct that step"),
    ],
)
def test_advice_on_frequent_failures(reason: str, fix: str) -> None:
    """Frequent failures come with advice."""
    what, advice = explain(SPEC, Failure(reason=reason))

    assert f"cannot build image 'a:1': {reason or 'the builder gave no reason'}." == what
    assert fix in advice


def test_advice_on_commands() -> None:
    """The output of a command is not interpreted, except for a full disk and a killed command."""
    step = Step("step 1 of 1", "RUN a")
    mine = Failure(reason="", step=step, exit_code=1, last_lines=("x: unknown instruction",))
    full = Failure(reason="", step=step, exit_code=1, last_lines=("x: No space left on device",))
    killed = Failure(reason="", step=step, exit_code=137)

    assert explain(SPEC, mine)[1].startswith("Correct that step")
    assert "docker system df" in explain(SPEC, full)[1]
    assert "out of memory" in explain(SPEC, killed)[1]


def test_a_buildkit_that_is_too_old() -> None:
    """A BuildKit that is too old for the Dockerfile is reported."""
    spec = BuildSpec(tag="a:1", dockerfile="D", buildkit="COPY --link in line 2")

    _, fix = explain(spec, Failure(reason="unknown flag: link"))

    assert "too old for COPY --link in line 2" in fix
    assert "docker/dockerfile:1" in fix
