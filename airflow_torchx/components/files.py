"""Components of users' own: a function in a file, or in a module that can be imported."""

from __future__ import annotations

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
    from collections.abc import Callable
    from types import TracebackType

    from airflow_torchx.specs import AnyApp


class user_code_errors:  # noqa: N801 - reads as a verb in a with statement
    """Turns whatever a user's code raises into a `ComponentError` that says where.

    Errors of this package stay what they are; so does what tells a process to end, but for a
    ``sys.exit`` in that code.

    Args:
        what: what could not be done, without a full stop.
        file: file of the user's code, for the line; None leaves it out.
        fix: what to do about it.
    """

    def __init__(self, what: str, file: Path | str | None = None, fix: str = "") -> None:
        self._what = what
        self._fix = fix
        self._file = str(file) if file else None

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(
            error, KeyboardInterrupt | GeneratorExit | AirflowTorchXError
        ):
            return
        line = self._line(error)
        where = f" ({self._file}, line {line})" if line else ""
        what = f"{self._what}: {type(error).__name__}: {error}{where}"
        raise ComponentError(what, fix=self._fix) from error

    def _line(self, error: BaseException) -> int | None:
        if isinstance(error, SyntaxError) and error.filename == self._file:
            return error.lineno
        frames = traceback.extract_tb(error.__traceback__)
        return next((f.lineno for f in reversed(frames) if f.filename == self._file), None)


def load(name: str, folder: Path | str | None = None) -> Callable[..., AnyApp]:
    """Return the component that ``path/to/file.py:function`` or ``a.module:function`` names.

    The file is run, anew each time; it needs not be a part of a package, and finds the modules
    beside it. A class counts as well: made of the arguments, its ``build()`` returns the app.

    Args:
        name: the file, or the module, and what in it.
        folder: where a relative path starts; None for the current folder.

    Raises:
        ComponentError: there is no such file or function, the file cannot be run, or the function
            does not say that it returns an ``AppDef``.
    """
    place, _, wanted = name.rpartition(":")
    # Path.expanduser() would raise for an unknown ~user.
    path = Path(folder or ".") / os.path.expanduser(place)  # noqa: PTH111 - see above
    is_module = all(part.isidentifier() for part in place.split(".")) and not place.endswith(".py")
    if is_module and not path.is_file():
        module = _imported(name, place)
    else:
        module = _run(name, path.absolute(), place)
    found = vars(module).get(wanted)
    if found is None:
        near = nearest(wanted, _functions(module))
        what = f"there is no function {wanted!r} in {place}."
        raise ComponentError(what, fix=f"Did you mean {near!r}?" if near else "Correct the name.")
    return _component(name, found)


def _imported(name: str, place: str) -> ModuleType:
    fix = "Correct the name, or install what has it where the task runs."
    with user_code_errors(f"component {name!r} cannot be imported", fix=fix):
        return importlib.import_module(place)


def _run(name: str, path: Path, place: str) -> ModuleType:
    """Return the module that a file becomes when it is run."""
    try:
        source = path.read_bytes()
    except OSError as why:
        what = f"component {name!r}: {path} cannot be read: {why.strerror}."
        fix = "Correct the path."
        if not Path(place).is_absolute():
            fix += " A relative one starts at the folder of the DAG file, or at the current one."
        raise ComponentError(what, fix=fix) from why
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    module = ModuleType(f"airflow_torchx_component_{digest}")
    module.__file__ = str(path)
    # As TorchX does; last, so that nothing is hidden, and for good, as a function may import late.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    # Dataclasses look their module up.
    sys.modules[module.__name__] = module
    with user_code_errors(f"component {name!r} cannot be loaded", path, "Correct it there."):
        # No import: Python would keep a compiled copy, and believe it after a change in a second.
        code = compile(source, str(path), "exec", dont_inherit=True)
        exec(code, vars(module))  # noqa: S102 - the user's own file
    return module


def _functions(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]


def _component(name: str, found: Any) -> Callable[..., AnyApp]:  # noqa: ANN401 - whatever is there
    """Return what was found as a function, once it says what it returns."""
    build = getattr(found, "build", None) if inspect.isclass(found) else found
    annotations = getattr(build, "__annotations__", {})
    returned = annotations.get("return")
    shown = returned if isinstance(returned, str) else getattr(returned, "__name__", "")
    if not callable(build) or shown.rpartition(".")[2] != "AppDef":
        what, form = f"{name!r} is no component: it", "def name(...) -> AppDef"
        if not callable(found):
            what += f" is {found!r:.50} and no function."
        else:
            what += " does not say that it returns an AppDef."
        if inspect.isclass(found):
            form = "def build(self) -> AppDef"
        raise ComponentError(what, fix=f"Write it as {form}, types included.")
    return _built_by(found) if inspect.isclass(found) else found


def _built_by(made: Any) -> Callable[..., AnyApp]:  # noqa: ANN401 - any class
    @functools.wraps(made, updated=())
    def component(*args: object, **kwargs: object) -> AnyApp:
        app: AnyApp = made(*args, **kwargs).build()
        return app

    return component
