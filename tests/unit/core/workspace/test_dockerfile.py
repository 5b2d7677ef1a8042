"""What a Dockerfile needs."""

from __future__ import annotations

import pytest

from airflow_torchx.core.workspace.dockerfile import problem, why_buildkit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN --mount=type=cache,target=/c true", "RUN --mount in line 1"),
        ("FROM a\n\n# no\nrun   --Network=none true", None),
        ("FROM a\n\n# no\nrun   --network=none true", "RUN --network in line 4"),
        ("RUN --security=insecure true", "RUN --security in line 1"),
        ("RUN --device=a true", "RUN --device in line 1"),
        ('COPY --from=a --chown="a b" --chmod=755 . .', "COPY --chmod in line 1"),
        ("COPY --link . .", "COPY --link in line 1"),
        ("COPY --exclude=*.md . .", "COPY --exclude in line 1"),
        ("Copy --parents . .", "COPY --parents in line 1"),
        ("ADD --checksum=sha256:a b c", "ADD --checksum in line 1"),
        ("ADD --keep-git-dir=true b c", "ADD --keep-git-dir in line 1"),
        ("ONBUILD RUN --mount=type=ssh true", "RUN --mount in line 1"),
        ("FROM a\r\nRUN \\\r\n  --mount=type=ssh \\\r\n  true\r\n", "RUN --mount in line 2"),
        ("RUN a \\\n  # b\n\n  && c\nRUN --mount=a b", "RUN --mount in line 5"),
        ("# escape=`\nFROM a\nRUN a `\n b\nRUN `\n --mount=a b", "RUN --mount in line 5"),
        ("# escape=`\nCOPY a c:\\\nRUN --mount=a b", "RUN --mount in line 3"),
        ("COPY a \\\\\nRUN --mount=a b", "RUN --mount in line 2"),
        ("COPY a b \\", None),
        ("RUN echo --mount=a", None),
        ("RUN a \\\n RUN --mount=a", None),
        ("COPY --from=a --chown=b c d", None),
        ("ENTRYPOINT --mount=a", None),
        ("# RUN --mount=a b", None),
        ("  # RUN --mount=a b", None),
        ("RUN", None),
        ("ONBUILD", None),
        ("", None),
    ],
)
def test_flags(text: str, expected: str | None) -> None:
    """Flags that only BuildKit knows are found where an instruction begins, and only there."""
    assert expected == why_buildkit(text, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN <<EOF\necho\nEOF", "RUN <<EOF in line 1"),
        ("RUN python3 <<-'END' > /x\nEND", "RUN <<-'END' in line 1"),
        ('COPY <<"EOF" /x\nEOF', 'COPY <<"EOF" in line 1'),
        ("ADD a 3<<_x /b\n_x", "ADD 3<<_x in line 1"),
        ("RUN a \\\n  <<EOF\nEOF", "RUN <<EOF in line 1"),
        ("RUN cat <<< word", None),
        ("RUN cat <<<word", None),
        ("RUN echo $((1<<2)) $(( 1 << 2 )) $(( 1 <<2 ))", None),
        ("RUN echo 'a <<EOF b' \"c <<EOF\" d\\ <<EOF", None),
        ('RUN ["cat", "<<EOF"]', None),
        ("RUN [ a <<EOF ]\nEOF", "RUN <<EOF in line 1"),
        ("CMD cat <<EOF", None),
    ],
)
def test_heredocs(text: str, expected: str | None) -> None:
    """A heredoc is a word of its own; shifts, here-strings and quoted text are none."""
    assert expected == why_buildkit(text, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# syntax=docker/dockerfile:1\nFROM a", "# syntax=docker/dockerfile:1 in line 1"),
        ("\ufeff#SYNTAX = x \r\nFROM a", "# syntax=x in line 1"),
        ("# escape=`\n# syntax=x", "# syntax=x in line 2"),
        ("# Mine\n# syntax=x\nFROM a", None),
        ("\n# syntax=x\nFROM a", None),
        ("FROM a\n# syntax=x", None),
        ("# escape=`", None),
    ],
)
def test_directives(text: str, expected: str | None) -> None:
    """A syntax is asked for before everything else, or it is a comment."""
    assert expected == why_buildkit(text, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM --platform=$BUILDPLATFORM a", "FROM $BUILDPLATFORM in line 1"),
        ("FROM a-${TARGETARCH}", "FROM $TARGETARCH in line 1"),
        ("FROM a\nARG X TARGETOS", "ARG TARGETOS in line 2"),
        ("FROM $IMAGE\nARG TARGETOS=linux\nRUN echo $TARGETARCH", None),
    ],
)
def test_platforms(text: str, expected: str | None) -> None:
    """Only BuildKit knows the platforms."""
    assert expected == why_buildkit(text, [])


def test_secrets() -> None:
    """Only BuildKit has secrets."""
    assert "build secrets" == why_buildkit("FROM a", ["id=a,env=A"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "it has no instruction"),
        ("\ufeff# syntax=x\n\n  # all is comment\n\\\n", "it has no instruction"),
        ("ARG a\nRUN b", "it has no FROM, so no image to begin with"),
        ("ARG a\nfrom $a", None),
    ],
)
def test_problem(text: str, expected: str | None) -> None:
    """A text without instructions, or without an image to begin with, is no Dockerfile."""
    assert expected == problem(text)
