"""Runs one function in a container; this file is copied there and supports Python 3.8.

The function's source is in the same folder, and the call is in the environment. The return value of
replica 0 is written as JSON.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import json
import linecache
import os
import signal
import sys
import time
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

_CALL_ENV = "AIRFLOW_TORCHX_CALL_"


def main() -> None:
    """Call the function and write its return value."""
    sys.excepthook = _print_error
    if os.getpid() == 1:
        # Without a handler, the first process of a container ignores SIGTERM.
        signal.signal(signal.SIGTERM, _exit)
    # Modules of the workspace can be imported.
    sys.path[0] = str(Path.cwd())
    call = _pop_call(os.environ)
    file = Path(__file__).with_name(f"function-{call['function']}.py")
    function = _load(file.read_text(encoding="utf-8"), call)
    result = function(*call["args"], **call["kwargs"])
    if call["result_path"] and _is_writer(os.environ):
        _write(result, call)


def _pop_call(environ: MutableMapping[str, str]) -> dict[str, Any]:
    """Return the call, and remove it from the environment that subprocesses inherit."""
    parts: list[str] = []
    while _CALL_ENV + str(len(parts)) in environ:
        parts.append(environ[_CALL_ENV + str(len(parts))])
    for number in range(len(parts)):
        del environ[_CALL_ENV + str(number)]
    call: dict[str, Any] = json.loads("".join(parts))
    return call


def _load(text: str, call: dict[str, Any]) -> Callable[..., Any]:
    """Return the function; its tracebacks show lines of the user's file."""
    file, before = call["file"], call["line"] - 1
    lines = ["\n"] * before + text.splitlines(True)
    linecache.cache[file] = (len(text), None, lines, file)
    tree = ast.parse(text, file)
    ast.increment_lineno(tree, before)
    _drop_annotations(tree, call["function"])
    flags = __future__.annotations.compiler_flag if call["lazy_annotations"] else 0
    module = types.ModuleType("__torchx_function__")
    module.__file__ = file
    # Dataclasses look up their module.
    sys.modules[module.__name__] = module
    exec(compile(tree, file, "exec", flags, True), module.__dict__)  # noqa: S102 - the user's code
    function: Callable[..., Any] = getattr(module, call["function"])
    return function


def _drop_annotations(tree: ast.Module, name: str) -> None:
    """Remove the function's annotations, since their names are in the user's module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            node.returns = None
            variadic = [node.args.vararg, node.args.kwarg]
            for arg in [*node.args.args, *node.args.posonlyargs, *node.args.kwonlyargs, *variadic]:
                if arg is not None:
                    arg.annotation = None
            return


def _is_writer(environ: MutableMapping[str, str]) -> bool:
    """Return whether this is the first process of replica 0."""
    return environ["TORCHX_REPLICA_IDX"] == "0" and environ.get("LOCAL_RANK", "0") == "0"


def _write(result: object, call: dict[str, Any]) -> None:
    try:
        text = json.dumps(result, allow_nan=False)
    except (TypeError, ValueError) as error:
        message = (
            f"{call['function']}() returned a {type(result).__name__} that is not JSON: {error}\n"
            "Return numbers, strings, lists or dicts; for a tensor, its item()."
        )
        raise TypeError(message) from None
    path = Path(call["result_path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _print_error(
    kind: type[BaseException], error: BaseException, frames: types.TracebackType | None
) -> None:
    """Print an error with its traceback, without the frames of this file, and record it."""
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    traceback.print_exception(kind, error, frames)
    with contextlib.suppress(KeyError, OSError):
        _record(kind, error, frames, Path(os.environ["TORCHELASTIC_ERROR_FILE"]))


def _record(
    kind: type[BaseException], error: BaseException, frames: types.TracebackType | None, path: Path
) -> None:
    """Write an error as PyTorch's ``@record`` does: torchrun copies it to the replica's own."""
    text = "".join(traceback.format_exception(kind, error, frames))
    extra = {"py_callstack": text, "timestamp": str(int(time.time()))}
    short = "".join(traceback.format_exception_only(kind, error)).strip()
    message = {"message": short, "extraInfo": extra}
    path.write_text(json.dumps({"message": message}), encoding="utf-8")


def _exit(number: int, _frame: types.FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
