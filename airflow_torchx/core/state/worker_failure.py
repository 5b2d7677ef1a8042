"""Why a worker of torchrun failed, read from its error file and from torchrun's log.

torchrun itself ends with code 1. A program writes both texts, so neither is trusted: a value of
another form counts as missing.
"""

from __future__ import annotations

import json
import re
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.specs import WorkerFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_torchx.core.logs.lines import LogLine

#: A longer error file is not read.
MAX_FILE_BYTES: Final = 1 << 20
_MESSAGE_CHARS: Final = 2_000
_TRACEBACK_CHARS: Final = 8_000

#: A control sequence of ECMA-48, or a command to the terminal, like a link.
SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
TRACEBACK: Final = "Traceback (most recent call last):"

_ROOT_CAUSE: Final = "Root Cause (first observed failure):"
_FIELD: Final = re.compile(r" {0,4}(time|rank|exitcode|traceback) {0,8}: (.*)", re.DOTALL)
_RANKS: Final = re.compile(r"(\d{1,9}) \(local_rank: (\d{1,9})\)", re.ASCII)
_CODE: Final = re.compile(r"(-?\d{1,3}) \(pid: ", re.ASCII)
#: What torchrun writes before each line of a traceback in its block.
_INDENT: Final = "  "
#: What torchrun logs of the first worker that failed, once its others have ended.
_NOTICED: Final = re.compile(
    r"failed \(exitcode: (-?\d{1,3})\) local_rank: (\d{1,9}) \(pid: ", re.ASCII
)
#: What torchrun writes without an error file.
_NO_MESSAGE: Final = ("To enable traceback see: ", "Signal ", "<N/A>", "<NONE>")
#: torchrun's own error when it is asked to stop: not a failure.
_STOPPED: Final = "SignalException: "
_RANK_PREFIX: Final = re.compile(r"\[rank\d{1,9}\]: ?", re.ASCII)
_SIGNALS: Final = 128
_MAX_CODE: Final = 255
_ZONE: Final = timedelta(minutes=15)


def worker_failure(
    error_file: str,
    lines: Sequence[LogLine],
    started_at: datetime | None,
    mask: Callable[[str], str] = str,
) -> WorkerFailure | None:
    """Return why a worker of a replica failed; None if neither text says so.

    Args:
        error_file: content of the file in ``TORCHELASTIC_ERROR_FILE``; empty without one. Docker
            restarts a container with its files, so one older than ``started_at`` does not count.
        lines: last lines of the replica's log, with times, of this run.
        started_at: when the replica's container started.
        mask: masks the secrets in a text of the file. JSON quotes texts that a program has quoted
            already, in which no secret can be found.
    """
    by_file = _by_file(error_file, started_at, mask) if error_file else None
    by_log = _by_log(lines)
    if by_file is None or by_log is None:
        return by_file or by_log
    return WorkerFailure(
        rank=by_log.rank,
        exit_code=by_log.exit_code if by_log.exit_code is not None else by_file.exit_code,
        signal=by_log.signal,
        message=by_file.message or by_log.message,
        traceback=by_file.traceback or by_log.traceback,
        failed_at=by_log.failed_at or by_file.failed_at,
    )


def _by_file(
    content: str, started_at: datetime | None, mask: Callable[[str], str]
) -> WorkerFailure | None:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return None
    error = _mapping(_mapping(data).get("message"))
    extra = _mapping(error.get("extraInfo"))
    if not error:  # the form of programs that write the file themselves
        error = extra = _mapping(data)
    failed_at = _moment(extra.get("timestamp"))
    # The file has whole seconds.
    if failed_at is None or (started_at and failed_at < started_at.replace(microsecond=0)):
        return None
    message = _text(error.get("message"), _MESSAGE_CHARS, mask)
    if message.startswith(_STOPPED):
        return None
    code = error.get("errorCode")
    exit_code, name = _ended(code if type(code) is int else None)
    return WorkerFailure(
        exit_code=exit_code,
        signal=name,
        message=message,
        traceback=_end(_text(extra.get("py_callstack"), mask=mask)),
        failed_at=failed_at,
    )


def _by_log(lines: Sequence[LogLine]) -> WorkerFailure | None:
    texts = [SEQUENCE.sub("", line.text) for line in lines]
    starts = [index for index, text in enumerate(texts) if text == _ROOT_CAUSE]
    noticed = [(i, match) for i, text in enumerate(texts) if (match := _NOTICED.search(text))]
    block = _block(lines, texts, starts[-1]) if starts else {}
    ranks, code = _RANKS.match(block.get("rank", "")), _CODE.match(block.get("exitcode", ""))
    if ranks and code:
        local_rank, exit_code = int(ranks[2]), int(code[1])
    elif noticed:
        local_rank, exit_code = int(noticed[-1][1][2]), int(noticed[-1][1][1])
    else:
        return None
    own: list[tuple[str, int | None]] = []
    if exit_code == 1:
        # Python ends with 1 after a traceback. With another code, the last one was caught.
        own = _own_traceback(lines[: starts[-1] if starts else None], texts, local_rank)
    traceback = _text(block.get("traceback", ""))
    if traceback.startswith(_NO_MESSAGE):
        traceback = ""
    traceback = traceback or _text("\n".join(text for text, _ in own))
    shown_code, name = _ended(exit_code)
    return WorkerFailure(
        rank=int(ranks[1]) if ranks else None,
        exit_code=shown_code,
        signal=name,
        message=_error_of(traceback),
        traceback=_end(traceback),
        failed_at=_failed_at(
            _block_time(block.get("time", ""), lines),
            _time_of(own[0][1]) if own else None,
            _time_of(lines[noticed[-1][0]].time_ns) if noticed else None,
        ),
    )


def _block(lines: Sequence[LogLine], texts: Sequence[str], start: int) -> dict[str, str]:
    """Return the fields of torchrun's block, of which the last, the traceback, has many lines.

    Lines of the other stream can stand between those of the block, and other lines can follow it:
    only what is indented within its frame belongs to a traceback.
    """
    found: dict[str, str] = {}
    for line, text in zip(lines[start + 1 :], texts[start + 1 :], strict=False):
        if line.stream != lines[start].stream:
            continue
        if text and not text.strip("="):
            return found
        match = _FIELD.match(text)
        if "traceback" in found:
            if text.startswith(_INDENT):
                found["traceback"] += f"\n{text.removeprefix(_INDENT)}"
        elif match:
            found[match[1]] = match[2]
    found.pop("traceback", None)
    return found


def _own_traceback(
    lines: Sequence[LogLine], texts: Sequence[str], local_rank: int
) -> list[tuple[str, int | None]]:
    """Return the last traceback among the lines that torchrun copied from a worker."""
    # torchrun's --role stands before the local rank; components leave it empty.
    prefix = re.compile(rf"\[\D{{0,60}}{local_rank}\]:")
    found: list[tuple[str, int | None]] = []
    stream = ""
    for line, text in zip(lines, texts, strict=False):
        if match := prefix.match(text):
            own = _RANK_PREFIX.sub("", text[match.end() :], count=1)
            if own == TRACEBACK:
                found, stream = [], line.stream
            elif line.stream != stream:
                continue
            found.append((own, line.time_ns))
    return found


def _error_of(traceback: str) -> str:
    """Return the error at the end of a traceback, with further lines of its message."""
    texts = traceback.strip().split("\n")
    for index in range(len(texts) - 1, -1, -1):
        if texts[index].startswith((" ", TRACEBACK)):
            return _text("\n".join(texts[index + 1 :]), _MESSAGE_CHARS)
    return _text(texts[-1], _MESSAGE_CHARS)


def _failed_at(
    in_block: datetime | None, printed: datetime | None, noticed: datetime | None
) -> datetime | None:
    """Return when a worker failed, from up to three times.

    Args:
        in_block: when torchrun noticed it, to the second.
        printed: when the worker printed its traceback.
        noticed: when torchrun logged it, after its other workers had ended.
    """
    if printed or in_block is None:
        return printed or noticed
    return noticed if noticed and noticed.replace(microsecond=0) == in_block else in_block


def _block_time(text: str, lines: Sequence[LogLine]) -> datetime | None:
    """Return the time in torchrun's block, which it writes in the time zone of the container."""
    written = [line.time_ns for line in lines if line.time_ns]
    try:
        local = datetime.strptime(text, "%Y-%m-%d_%H:%M:%S").replace(tzinfo=UTC)
        if written and (last := _time_of(written[-1])):
            local -= _ZONE * round((local - last) / _ZONE)
    except (ValueError, OverflowError):
        return None
    return local


def _time_of(time_ns: int | None) -> datetime | None:
    if time_ns is None:
        return None
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1_000)


def _moment(value: object) -> datetime | None:
    """Return the time of a number of seconds, which torchrun writes as a text."""
    is_whole = isinstance(value, int | str) and re.fullmatch(r"\d{1,10}", str(value), re.ASCII)
    return datetime.fromtimestamp(int(str(value)), UTC) if is_whole else None


def _ended(code: int | None) -> tuple[int | None, str | None]:
    """Return the exit code as Docker counts, and the signal, of Python's code of a process."""
    if code is None or not -_SIGNALS < code <= _MAX_CODE:
        return None, None
    if code >= 0:
        return code, None
    try:
        return _SIGNALS - code, signal.Signals(-code).name
    except ValueError:
        return _SIGNALS - code, None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object, most: int | None = None, mask: Callable[[str], str] = str) -> str:
    """Return a text without control characters, and without what is beyond ``most`` characters."""
    if not isinstance(value, str):
        return ""
    # Masked without the colors that a program may give to a part of a secret, and before the cut.
    clean = mask(SEQUENCE.sub("", value).replace("\r\n", "\n"))[:most]
    return "".join(one if one.isprintable() or one in "\n\t" else "?" for one in clean).strip("\n")


def _end(traceback: str) -> str:
    """Return the last lines of a traceback, as many as there is room for."""
    if len(traceback) <= _TRACEBACK_CHARS:
        return traceback
    return "…\n" + traceback[-_TRACEBACK_CHARS:].partition("\n")[2]
