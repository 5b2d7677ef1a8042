"""Loads users' own components from a file or an importable module."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import inspect
import os.path
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from airflow_torchx.errors import AirflowTorchXError, ComponentError
from airflow_torchx.specs.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.specs import AnyApp


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
        raise ComponentError(f"{what}: {type(error).__name__}: {error}{where}", fix=fix) from error


def _line(error: BaseException, file: str) -> int | None:
    """Return the last line of a file that an error passed, or where its syntax is invalid."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == file), None)


def load(name: str, folder: Path | str | None = None) -> Callable[..., AnyApp]:
    """Return the component at ``path/to/file.py:function`` or ``a.module:function``.

    The file is run on every call. It need not be part of a package and can import modules next to
    it. Instead of a function, a class may be named: its ``build()`` returns the app.

    Args:
        name: the file or module, and the function or class in it.
        folder: base folder of a relative path; None for the current folder.

    Raises:
        ComponentError: the file or function does not exist, the file fails to run, or the function
            is not annotated to return an ``AppDef``.
    """
    source, _, attribute = name.rpartition(":")
    # Path.expanduser() raises for an unknown ~user.
    path = Path(folder or ".") / os.path.expanduser(source)  # noqa: PTH111 - see above
    is_module = all(map(str.isidentifier, source.split("."))) and not source.endswith(".py")
    if is_module and not path.is_file():
        fix = "Correct the name, or install the module where the task runs."
        with user_code_errors(f"cannot import component {name!r}", fix=fix):
            module = importlib.import_module(source)
    else:
        module = _run(name, path.absolute(), source)
    found = vars(module).get(attribute)
    if found is None:
        near = nearest(attribute, _functions(module))
        what = f"no function {attribute!r} in {source}"
        raise ComponentError(what, fix=f"Did you mean {near!r}?" if near else "Correct the name.")
    return _component(name, found)


def _run(name: str, path: Path, given: str) -> ModuleType:
    """Run a file and return it as a module; ``given`` is its path as the user wrote it."""
    try:
        source = path.read_bytes()
    except OSError as error:
        what = f"component {name!r}: cannot read {path}: {error.strerror}"
        fix = "Correct the path."
        if not Path(given).is_absolute():
            fix += " A relative path starts at the DAG file's folder, or at the current folder."
        raise ComponentError(what, fix=fix) from error
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    module = ModuleType(f"airflow_torchx_component_{digest}")
    module.__file__ = str(path)
    # As in TorchX. Appended, so nothing is shadowed; never removed, since functions import late.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    # Dataclasses look up their module.
    sys.modules[module.__name__] = module
    with user_code_errors(f"cannot load component {name!r}", path, "Fix the error in that file."):
        # Not imported: Python's bytecode cache misses a change within one second.
        code = compile(source, str(path), "exec", dont_inherit=True)
        exec(code, vars(module))  # noqa: S102 - the user's own file
    return module


def _functions(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]


def _component(name: str, found: Any) -> Callable[..., AnyApp]:  # noqa: ANN401 - any object
    """Return a module's attribute as a component, or raise if it is not one."""
    build = getattr(found, "build", None) if inspect.isclass(found) else found
    annotations = getattr(build, "__annotations__", {})
    returned = annotations.get("return")
    shown = returned if isinstance(returned, str) else getattr(returned, "__name__", "")
    if not callable(build) or shown.rpartition(".")[2] != "AppDef":
        what = f"{name!r} is not a component: it is "
        what += "not annotated to return an AppDef" if callable(found) else f"{found!r:.50}"
        form = "def build(self) -> AppDef" if inspect.isclass(found) else "def name(...) -> AppDef"
        raise ComponentError(what, fix=f"Declare it as {form}, and annotate all parameters.")
    return _from_class(found) if inspect.isclass(found) else found


def _from_class(cls: Any) -> Callable[..., AnyApp]:  # noqa: ANN401 - any class
    @functools.wraps(cls, updated=())
    def component(*args: object, **kwargs: object) -> AnyApp:
        app: AnyApp = cls(*args, **kwargs).build()
        return app

    return component
