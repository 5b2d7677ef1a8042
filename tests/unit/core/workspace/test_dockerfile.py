"""Tests of finding out whether a Dockerfile needs BuildKit."""

from __future__ import annotations

import pytest

from airflow_torchx.core.workspace.dockerfile import buildkit_reason, problem


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
def test_flags_that_need_buildkit(text: str, expected: str | None) -> None:
    """Flags that only BuildKit supports are found at the start of an instruction only."""
    assert expected == buildkit_reason(text, [])


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
def test_heredocs_need_buildkit(text: str, expected: str | None) -> None:
    """A heredoc is a separate word; shifts, here-strings and quoted text are not heredocs."""
    assert expected == buildkit_reason(text, [])


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
def test_a_syntax_directive_needs_buildkit(text: str, expected: str | None) -> None:
    """A syntax directive is recognised at the top of the file only."""
    assert expected == buildkit_reason(text, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM --platform=$BUILDPLATFORM a", "FROM $BUILDPLATFORM in line 1"),
        ("FROM a-${TARGETARCH}", "FROM $TARGETARCH in line 1"),
        ("FROM a\nARG X TARGETOS", "ARG TARGETOS in line 2"),
        ("FROM $IMAGE\nARG TARGETOS=linux\nRUN echo $TARGETARCH", None),
    ],
)
def test_platform_arguments_need_buildkit(text: str, expected: str | None) -> None:
    """Platform arguments need BuildKit."""
    assert expected == buildkit_reason(text, [])


def test_secrets_need_buildkit() -> None:
    """Build secrets need BuildKit."""
    assert "build secrets" == buildkit_reason("FROM a", ["id=a,env=A"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "it has no instruction"),
        ("\ufeff# syntax=x\n\n  # all is comment\n\\\n", "it has no instruction"),
        ("ARG a\nRUN b", "it has no FROM instruction"),
        ("ARG a\nfrom $a", None),
    ],
)
def test_texts_that_are_not_dockerfiles(text: str, expected: str | None) -> None:
    """A text without instructions or without FROM is not a Dockerfile."""
    assert expected == problem(text)
