"""Explains why a program did not start, from what the container runtime or a shell printed."""

from __future__ import annotations

import re
from typing import Final

_FIX_FIRST_LINE: Final = (
    "{0} or the program that its first line (#!) names is not in the image. If the file has CRLF"
    " line ends, convert them to LF, as dos2unix does."
)
_MAKE_EXECUTABLE: Final = (
    "{0} is not executable. Run `chmod +x` on it, or start its interpreter, as in `sh {0}`. If it"
    " is a folder, name a program in it."
)
_FIX_FORMAT: Final = (
    "{0} is not a program for this host. A script needs a first line like #!/bin/sh, without a byte"
    " order mark; a binary needs the architecture of the host."
)
_USE_ANOTHER: Final = (
    "The image has no {0}. Use an image with this program, or set the role's entrypoint (python= of"
    " @task.torchx)."
)
_USE_PYTORCH: Final = (
    "The image has no {0}, which the components dist.* need: use one with PyTorch."
)
_FIX_SYNTAX: Final = (
    "A script has a syntax error. If it has CRLF line ends, convert them to LF, as dos2unix does."
)
_ONE_PROGRAM: Final = (
    "An entrypoint is the name of one program: {0!r} has a space. Put its arguments in args."
)
_CREATE_FOLDER: Final = (
    "Create {0} on the host of the daemon, or of each node on which replicas may run; the files of"
    " a worker's container are not there."
)
# A container that the runtime did not start has no exit code.
_NOT_STARTED: Final = (None,)
# https://github.com/opencontainers/runc reports its last error as the container's output.
_EXEC: Final = (1, 127, 255)
_SHELL: Final = (126, 127)

#: Exit codes, a pattern of a message, and the advice, in which the pattern's groups are inserted.
#: A line may have megabytes, so no pattern looks at a character more than a few times.
_ADVICE: Final = (
    (_NOT_STARTED, r"bind source path does not exist: (\S+)", _CREATE_FOLDER),
    (_NOT_STARTED, r'exec: "(bash|torchrun)": executable file not found', _USE_PYTORCH),
    (_NOT_STARTED, r'exec: "(\S+ [^"]*)": (?:executable file not|stat .*no such)', _ONE_PROGRAM),
    (
        _NOT_STARTED,
        r'exec: "([^"]+)": (?:executable file not found|stat .*no such file)',
        _USE_ANOTHER,
    ),
    (_NOT_STARTED, r'exec: "([^"]+)": permission denied', _MAKE_EXECUTABLE),
    (_EXEC, r"^exec (\S+): no such file or directory", _FIX_FIRST_LINE),
    (_EXEC, r"^exec (\S+): exec format error", _FIX_FORMAT),
    (_SHELL, r"\b(torchrun): (?:command )?not found$", _USE_PYTORCH),
    (_SHELL, r"(?<!\S)(\S+): cannot execute: required file not found$", _FIX_FIRST_LINE),
    (_SHELL, r"(?<!\S)([^\s/]*/\S+): not found$", _FIX_FIRST_LINE),
    (_SHELL, r"(?<!\S)(\S+): Permission denied$", _MAKE_EXECUTABLE),
    (
        (1, 2, *_SHELL),
        # A log line begins after its last carriage return.
        (
            r"\$'[^']*\\r'|env: [^:]*\\r|python[\d.]*t?: can't open file '[^']*\\r'|"
            r"^: (invalid option|(command )?not found|numeric argument)|"
            r"[Ii]llegal (option -|number: \d+)$"
        ),
        "A script has CRLF line ends. Convert them to LF, as dos2unix does.",
    ),
    ((2,), r"[Ss]yntax error: .{0,99}(unexpected|expecting)", _FIX_SYNTAX),
)


def start_advice(printed: str, exit_code: int | None = None) -> str | None:
    """Return why a program did not start, and what to do; None if a text does not say so.

    Args:
        printed: a message of the container runtime, or a line that the container printed.
        exit_code: that of the container; None if it was not started.
    """
    for codes, pattern, advice in _ADVICE:
        if exit_code in codes and (match := re.search(pattern, printed)):
            return advice.format(*match.groups())
    return None
