"""Turns errors of users' code into errors that name the line and what to do."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import traceback
from typing import TYPE_CHECKING, Final

from airflow_torchx.errors import AirflowTorchXError, ComponentError
from airflow_torchx.specs import torchx_compat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def user_code_errors(what: str, file: Path | str | None = None, fix: str = "") -> Iterator[None]:
    """Turn any error of a user's code into a `ComponentError` that names the line.

    Errors of this package, KeyboardInterrupt and GeneratorExit pass through; SystemExit does not.

    Args:
        what: the failed step, without a period.
        file: file of the user's code; None omits the line.
        fix: what to do about it.
    """
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit, AirflowTorchXError):
        raise
    except BaseException as error:
        line = _line(error, str(file))
        where = f" ({file}, line {line})" if line else ""
        fix = _instead_of_torchx(error) or fix
        raise ComponentError(f"{what}: {type(error).__name__}: {error}{where}", fix=fix) from error


def _line(error: BaseException, file: str) -> int | None:
    """Return the last line of a file that an error passed, or where its syntax is invalid."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == file), None)


def _instead_of_torchx(error: BaseException) -> str:
    """Return what to do about an import of TorchX if it is not installed, else an empty text.

    The user's code may have caught that import's error and raised another one.
    """
    missing = next(filter(_is_of_torchx, _with_causes(error)), None)
    if missing is None or torchx_compat.is_installed():
        return ""
    module = getattr(missing, "name", "")
    frames = traceback.extract_tb(missing.__traceback__)
    imports = [match for frame in frames if (match := _TORCHX_IMPORT.search(frame.line or ""))]
    names = [".".join(filter(None, match.groups())) for match in imports[-1:]] or [module]
    theirs = next(filter(_is_ours, _with_parents(names[0])), None)
    instead = f"Import airflow_{theirs} instead of {theirs}, or install" if theirs else "Install"
    return f"{instead} TorchX, which is the extra torchx: {torchx_compat.INSTALL}"


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it, the last one first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_of_torchx(error: BaseException) -> bool:
    return isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "torchx"


#: Its groups are the module and the first name that is imported from it.
_TORCHX_IMPORT: Final = re.compile(r"(?<![\w.])(torchx(?:\.\w+)*)(?:\s+import\s*\(?\s*(\w+))?")


def _with_parents(name: str) -> Iterator[str]:
    """Yield a dotted name and those of the packages that contain it, but for the first."""
    while "." in name:
        yield name
        name = name.rpartition(".")[0]


def _is_ours(name: str) -> bool:
    """Return whether this package has a module under TorchX's name."""
    try:
        return importlib.util.find_spec(f"airflow_{name}") is not None
    except ModuleNotFoundError:
        return False
