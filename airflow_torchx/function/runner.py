"""Runs one function in a container; this file is copied there, and needs Python 3.8 only.

The function's text lies beside it, what to call comes in the environment, and what replica 0
returns is written as JSON.
"""

from __future__ import annotations
import __future__

import ast
import json
import linecache
import os
import signal
import sys
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

_CALL_ENV = "AIRFLOW_TORCHX_CALL_"


def main() -> None:
    """Call the function, and write what it returns."""
    sys.excepthook = _show
    if os.getpid() == 1:
        # Nothing but a handler ends the first process of a container before SIGKILL does.
        signal.signal(signal.SIGTERM, _end)
    # What lies in the workspace can be imported.
    sys.path[0] = str(Path.cwd())
    call = _taken_from(os.environ)
    file = Path(__file__).with_name(f"function-{call['function']}.py")
    text = file.read_text(encoding="utf-8")
    function = _defined(text, call)
    result = function(*call["args"], **call["kwargs"])
    if call["result_path"] and _is_writer(os.environ):
        _write(result, call)


def _taken_from(environ: MutableMapping[str, str]) -> dict[str, Any]:
    """Return what to call, and take it out of the environment that subprocesses inherit."""
    parts: list[str] = []
    while _CALL_ENV + str(len(parts)) in environ:
        parts.append(environ[_CALL_ENV + str(len(parts))])
    for number in range(len(parts)):
        del environ[_CALL_ENV + str(number)]
    call: dict[str, Any] = json.loads("".join(parts))
    return call


def _defined(text: str, call: dict[str, Any]) -> Callable[..., Any]:
    """Return the function, whose tracebacks tell the lines of the user's own file."""
    file, before = call["file"], call["line"] - 1
    lines = ["\n"] * before + text.splitlines(True)
    linecache.cache[file] = (len(text), None, lines, file)
    tree = ast.parse(text, file)
    ast.increment_lineno(tree, before)
    _drop_annotations(tree, call["function"])
    flags = __future__.annotations.compiler_flag if call["lazy_annotations"] else 0
    module = types.ModuleType("__torchx_function__")
    module.__file__ = file
    # Dataclasses look up the module that they are defined in.
    sys.modules[module.__name__] = module
    exec(compile(tree, file, "exec", flags, True), module.__dict__)  # noqa: S102 - that is the job
    function: Callable[..., Any] = getattr(module, call["function"])
    return function


def _drop_annotations(tree: ast.Module, name: str) -> None:
    """Take the types off the function's parameters: they are names of the user's module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            node.returns = None
            some = [node.args.vararg, node.args.kwarg]
            for arg in [*node.args.args, *node.args.posonlyargs, *node.args.kwonlyargs, *some]:
                if arg is not None:
                    arg.annotation = None
            return


def _is_writer(environ: MutableMapping[str, str]) -> bool:
    """Tell whether this is replica 0, and of torchrun's processes the first in it."""
    return environ["TORCHX_REPLICA_IDX"] == "0" and environ.get("LOCAL_RANK", "0") == "0"


def _write(result: object, call: dict[str, Any]) -> None:
    try:
        text = json.dumps(result, allow_nan=False)
    except (TypeError, ValueError) as why:
        message = (
            f"{call['function']}() returned a {type(result).__name__} that is no JSON: {why}.\n"
            "Return numbers, texts, lists and dicts of them, like tensor.item()."
        )
        raise TypeError(message) from None
    path = Path(call["result_path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _show(
    kind: type[BaseException], error: BaseException, frames: types.TracebackType | None
) -> None:
    """Print an error and where in the user's code it comes from."""
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    traceback.print_exception(kind, error, frames)


def _end(number: int, _frame: types.FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
