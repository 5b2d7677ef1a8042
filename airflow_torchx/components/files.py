"""Loads users' own components from a file or an importable module."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import os.path
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_torchx.components.user_errors import user_code_errors
from airflow_torchx.errors import ComponentError, ComponentNotFoundError, InvalidComponentError
from airflow_torchx.specs.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

    from airflow_torchx.specs import AnyApp


def load(name: str, folder: Path | str | None = None) -> Callable[..., AnyApp]:
    """Return the component at ``path/to/file.py:function`` or ``a.module:function``.

    The file is run on every call, unless a module has imported it. It can import the modules next
    to it and, absolutely or relatively, those of its package. Instead of a function, a class may be
    named: its ``build()`` returns the app.

    Args:
        name: the file or module, and the function or class in it.
        folder: base folder of a relative path; None for the current folder.

    Raises:
        ComponentNotFoundError: the file, module or function does not exist.
        InvalidComponentError: the function is not annotated to return an ``AppDef``.
        ComponentError: the file or module fails to run.
    """
    source, _, attribute = name.rpartition(":")
    # Path.expanduser() raises for an unknown ~user.
    path = Path(folder or ".") / os.path.expanduser(source)  # noqa: PTH111 - see above
    is_module = all(map(str.isidentifier, source.split("."))) and not source.endswith(".py")
    if is_module and not path.is_file():
        module = _imported(name, source)
    else:
        # A folder is a package only if its name is an identifier, which ".." is not.
        file = path.parent.resolve() / path.name if ".." in path.parts else path.absolute()
        module = _run(name, file, source)
    found = vars(module).get(attribute)
    if found is None:
        near = nearest(attribute, _functions(module))
        what = f"no function {attribute!r} in {source}"
        fix = f"Did you mean {near!r}?" if near else "Correct the name."
        raise ComponentNotFoundError(what, fix=fix)
    return _component(name, found)


def _run(name: str, path: Path, given: str) -> ModuleType:
    """Run a file and return it as a module; ``given`` is its path as the user wrote it."""
    try:
        path.open("rb").close()
    except OSError as error:
        what = f"component {name!r}: cannot read {path}: {error.strerror}"
        fix = "Correct the path."
        if not Path(given).is_absolute():
            fix += " A relative path starts at the DAG file's folder, or at the current folder."
        raise ComponentNotFoundError(what, fix=fix) from error
    with user_code_errors(f"cannot load component {name!r}", path, "Fix the error in that file."):
        return _load(path)


def _imported(name: str, module: str) -> ModuleType:
    """Return the module of that name, of the component of that name."""
    fix = "Correct the name, or install the module where the task runs."
    try:
        with user_code_errors(f"cannot import component {name!r}", fix=fix):
            return importlib.import_module(module)
    except ComponentError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and _is_above(cause.name, module):
            raise ComponentNotFoundError(error.what, fix=error.fix) from cause
        raise


class _FileLoader(SourceFileLoader):
    """Loads a file without Python's bytecode cache, which misses a change within one second."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the compiled file."""
        path = self.get_filename(fullname)
        return compile(self.get_data(path), path, "exec", dont_inherit=True)


def _load(path: Path) -> ModuleType:
    """Load a file under the name by which its neighbours import it, as TorchX's nightly does.

    If an import of this name finds another file, the name is one that no other module has.
    """
    root, names = _place(path)
    for folder in (root, str(path.parent)):
        # As in TorchX. Appended, so nothing is shadowed; never removed: functions import late.
        if folder not in sys.path:
            sys.path.append(folder)
    # The file may be new.
    importlib.invalidate_caches()
    name = ".".join(names)
    found = _find(name)
    if found is None or not _is_file(found.origin, path):
        name = _unshadowed(path, root, names)
    elif name in sys.modules and not isinstance(found.loader, _FileLoader):
        return sys.modules[name]
    package, _, stem = name.rpartition(".")
    parent = importlib.import_module(package) if package else None
    module = _execute(name, path, _FileLoader(name, str(path)))
    if parent is not None:
        setattr(parent, stem, module)
    return module


def _place(path: Path) -> tuple[str, list[str]]:
    """Return the folder from which a file is imported, and its module's name in parts."""
    folder, names = path.parent, [path.stem]
    while names[0].isidentifier() and (folder / "__init__.py").is_file():
        if not folder.name.isidentifier():
            break
        names.insert(0, folder.name)
        folder = folder.parent
    return str(folder), names


def _find(name: str) -> ModuleSpec | None:
    """Return what an import of this name finds, and import the packages that contain it."""
    if name.startswith("."):  # a hidden file; an import would be relative
        return None
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # a module that was not imported, like __main__
        return None
    except ModuleNotFoundError as error:
        if _is_above(error.name, name):
            return None
        raise


def _is_above(missing: str | None, name: str) -> bool:
    """Return whether a missing module is the one of that name, or a package that contains it."""
    return f"{name}.".startswith(f"{missing}.")


def _is_file(found: str | None, path: Path) -> bool:
    try:
        return found is not None and path.samefile(found)
    except OSError:
        return False


def _unshadowed(path: Path, root: str, names: list[str]) -> str:
    """Return a name for a module that no other module has, and load its outermost package."""
    first = Path(root, names[0]) if len(names) > 1 else path
    digest = hashlib.sha256(str(first).encode()).hexdigest()[:12]
    unique = f"airflow_torchx_component_{digest}"
    if len(names) > 1 and unique not in sys.modules:
        init = first / "__init__.py"
        _execute(unique, init, _FileLoader(unique, str(init)), search=[str(first)])
    return ".".join([unique, *names[1:]])


def _execute(
    name: str, path: Path, loader: _FileLoader, search: list[str] | None = None
) -> ModuleType:
    """Run a file as the module of this name; ``search`` has the folder of a package."""
    spec = importlib.util.spec_from_file_location(
        name, path, loader=loader, submodule_search_locations=search
    )
    assert spec is not None  # noqa: S101 - it has a loader
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up their module.
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
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
        fix = f"Declare it as {form}, and annotate all parameters."
        raise InvalidComponentError(what, fix=fix)
    return _from_class(found) if inspect.isclass(found) else found


def _from_class(cls: Any) -> Callable[..., AnyApp]:  # noqa: ANN401 - any class
    @functools.wraps(cls, updated=())
    def component(*args: object, **kwargs: object) -> AnyApp:
        app: AnyApp = cls(*args, **kwargs).build()
        return app

    return component
