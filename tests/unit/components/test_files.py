"""Tests components in users' files and modules."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from airflow_torchx import components
from airflow_torchx.errors import ComponentError, ComponentNotFoundError
from airflow_torchx.specs import AppDef, Role

if TYPE_CHECKING:
    from pathlib import Path

GOOD = '''\
from __future__ import annotations

from dataclasses import dataclass

from airflow_torchx.specs import AppDef, Role
from my_constants import IMAGE

@dataclass
class Arguments:
    all: list[str]

def train(*args: str, name: str, cpu: float = 1) -> AppDef:
    """Train a model."""
    arguments = Arguments([str(cpu), *args])
    return AppDef(name, [Role("r", IMAGE, entrypoint="e", args=arguments.all)])

class Trainer:
    def __init__(self, name: str) -> None:
        self.name = name
    def build(self) -> AppDef:
        return AppDef(self.name)

def helper() -> str:
    return ""

LIMIT = 3
'''


@pytest.fixture
def folder(tmp_path: Path, own_modules: None) -> Path:  # noqa: ARG001
    """Return a folder with a file of components, which is not a package."""
    tmp_path.joinpath("mine.py").write_text(GOOD)
    tmp_path.joinpath("my_constants.py").write_text("IMAGE = 'img'\n")
    return tmp_path


def test_function_in_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path may be absolute, relative to the given folder, or relative to the current folder."""
    arguments = ["--name", "n", "--cpu", "0.5", "--", "--x"]
    expected = AppDef("n", [Role("r", "img", entrypoint="e", args=["0.5", "--x"])])

    assert expected == components.parse(f"{folder}/mine.py:train", arguments)
    assert expected == components.parse("mine.py:train", arguments, folder=folder)
    assert expected == components.parse(
        f"{folder.name}/mine.py:train", arguments, folder=folder.parent
    )
    monkeypatch.chdir(folder)
    assert expected == components.parse("./mine.py:train", arguments)
    assert expected == components.parse("mine.py:train", arguments)


def test_function_in_a_hidden_file(folder: Path) -> None:
    """A name that begins with a dot is not taken for that of a relative import."""
    folder.joinpath(".mine.py").write_text(GOOD)

    assert "n" == components.parse(f"{folder}/.mine.py:train", ["--name", "n"]).name
    assert "n" == components.parse(".mine.py:train", ["--name", "n"], folder=folder).name


def test_class_in_a_file(folder: Path) -> None:
    """A class is called with the arguments, and its build() returns the app."""
    name = f"{folder}/mine.py:Trainer"

    assert AppDef("n") == components.parse(name, ["--name", "n"])
    assert components.usage("Trainer", components.get(name)).startswith("usage: Trainer --name")


def test_function_in_a_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function in an importable module is found, and a missing module is an error."""
    monkeypatch.syspath_prepend(folder)

    assert "n" == components.parse("mine:train", ["--name", "n"]).name
    with pytest.raises(ComponentError, match=r"cannot import .*: ModuleNotFoundError: .*'no'"):
        components.get("no.such:train")
    folder.joinpath("broken.py").write_text("import no_such_module")
    with pytest.raises(ComponentError, match=r"cannot import .*'no_such_module'") as caught:
        components.get("broken:train")
    assert not isinstance(caught.value, ComponentNotFoundError)


def test_file_is_reloaded(folder: Path) -> None:
    """A changed file is reloaded, even if its size and its second of change are the same."""
    file = folder / "mine.py"
    before = components.parse(f"{file}:train", ["--name", "n"])
    file.write_text(GOOD.replace("str(cpu)", "str('a')"))
    after = components.parse(f"{file}:train", ["--name", "n"])

    assert (("1",), ("a",)) == (before.roles[0].args, after.roles[0].args)
    assert not (folder / "__pycache__" / "mine.cpython-311.pyc").exists()


COMPONENT = """\
from airflow_torchx.specs import AppDef

{imports}

def train() -> AppDef:
    return AppDef(IMAGE)
"""


def package(folder: Path, image: str = "img") -> Path:
    """Create the package ``parts.models``, whose modules know an image, and return its folder."""
    models = folder / "parts" / "models"
    models.mkdir(parents=True)
    models.parent.joinpath("__init__.py").touch()
    models.parent.joinpath("util.py").write_text(f"IMAGE = {image!r}\n")
    models.joinpath("__init__.py").touch()
    models.joinpath("names.py").write_text(f"IMAGE = {image!r}\n")
    return models


@pytest.mark.parametrize(
    "imports",
    [
        "from .names import IMAGE",
        "from . import names; IMAGE = names.IMAGE",
        "from ..util import IMAGE",
        "from parts.models.names import IMAGE",
        "from parts.util import IMAGE",
        "import parts.models.names; IMAGE = parts.models.names.IMAGE",
        "from names import IMAGE",
    ],
)
def test_file_in_a_package(folder: Path, imports: str) -> None:
    """A file in a package can import its siblings, relatively and absolutely, as in TorchX."""
    models = package(folder)
    models.joinpath("comp.py").write_text(COMPONENT.format(imports=imports))

    assert AppDef("img") == components.parse("parts/models/comp.py:train", [], folder=folder)


def test_path_with_parent_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file above the current folder can import its siblings, as in TorchX."""
    models = package(folder)
    models.parent.joinpath("comp.py").write_text(
        COMPONENT.format(imports="from .util import IMAGE")
    )
    monkeypatch.chdir(models)

    assert AppDef("img") == components.parse("../comp.py:train", [])


def test_component_in_the_file_of_a_package(folder: Path) -> None:
    """A component may be in the file of the package itself."""
    models = package(folder)
    models.joinpath("__init__.py").write_text(COMPONENT.format(imports="from .names import IMAGE"))

    assert AppDef("img") == components.parse(f"{models}/__init__.py:train", [])


def test_module_of_a_file(folder: Path) -> None:
    """A file is loaded under its dotted name, or its own name, and its siblings find it there."""
    models = package(folder)
    models.joinpath("comp.py").write_text(COMPONENT.format(imports="IMAGE = __name__"))
    names = [f"{models}/comp.py:train", f"{folder}/mine.py:train"]

    loaded = [components.get(name) for name in names]

    assert ["parts.models.comp", "mine"] == [function.__module__ for function in loaded]
    assert [sys.modules[one.__module__].train for one in loaded] == loaded
    assert sys.modules["parts.models"].comp.train is loaded[0]


def test_file_in_a_package_is_reloaded(folder: Path) -> None:
    """A changed file of a package is reloaded, but not one that a module has imported."""
    models = package(folder)
    file = models / "comp.py"
    for image in ("one", "two"):
        file.write_text(COMPONENT.format(imports=f"IMAGE = {image!r}"))
        assert AppDef(image) == components.parse(f"{file}:train", [])
    models.joinpath("other.py").write_text(file.read_text())
    imported = importlib.import_module("parts.models.other")

    assert imported.train is components.get(f"{models}/other.py:train")


def test_packages_of_one_name(tmp_path: Path, folder: Path) -> None:
    """Each of two files in packages of the same name imports its own siblings."""
    found = []
    for number in ("1", "2", "1"):
        home = tmp_path / number
        if not home.exists():
            imports = "from ..util import IMAGE"
            package(home, number).joinpath("comp.py").write_text(COMPONENT.format(imports=imports))
        found.append(components.parse(f"{home}/parts/models/comp.py:train", []).name)

    assert ["1", "2", "1"] == found
    assert folder == tmp_path


@pytest.mark.parametrize("name", ["json", "sys", "pytest", "a-b", "a.b", "__main__"])
def test_file_named_like_a_module(folder: Path, name: str) -> None:
    """A file does not replace the module of the same name, and a package cannot hide it."""
    before = sys.modules.get(name)
    folder.joinpath(f"{name}.py").write_text(COMPONENT.format(imports="IMAGE = 'img'"))
    folder.joinpath("pkg").mkdir()
    folder.joinpath("pkg", "__init__.py").touch()
    folder.joinpath("pkg.py").write_text(COMPONENT.format(imports="IMAGE = 'pkg'"))

    assert AppDef("img") == components.parse(f"{folder}/{name}.py:train", [])
    assert AppDef("pkg") == components.parse(f"{folder}/pkg.py:train", [])
    if before is not None:
        assert before is sys.modules[name]


def test_file_that_failed_is_not_a_module(folder: Path) -> None:
    """A file that failed to load leaves no half-loaded module behind."""
    models = package(folder)
    models.joinpath("comp.py").write_text("IMAGE = 1 / 0")

    with pytest.raises(ComponentError, match="ZeroDivisionError") as caught:
        components.get(f"{models}/comp.py:train")

    assert "comp.py, line 1)" in caught.value.what
    assert "parts.models.comp" not in sys.modules


def test_folder_that_is_no_package(folder: Path) -> None:
    """A folder whose name cannot be imported ends the package, as in TorchX."""
    models = package(folder / "my-parts")
    (folder / "my-parts" / "__init__.py").touch()
    models.joinpath("comp.py").write_text(COMPONENT.format(imports="IMAGE = __name__"))

    assert AppDef("parts.models.comp") == components.parse(f"{models}/comp.py:train", [])


def test_package_that_fails(folder: Path) -> None:
    """An error in the package of a file is an error of the component."""
    models = package(folder)
    models.joinpath("comp.py").write_text(COMPONENT.format(imports="IMAGE = ''"))
    models.joinpath("__init__.py").write_text("import no_such_module")

    with pytest.raises(ComponentError, match=r"cannot load .* No module named 'no_such_module'"):
        components.get(f"{models}/comp.py:train")


@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        ("gone.py:train", "/gone.py: No such file", "the DAG file's folder"),
        ("~nobody-like-that/x.py:train", "/x.py: No such file", "Correct the path."),
        ("mine.py:trian", "no function 'trian' in mine.py", "Did you mean 'train'?"),
        ("mine.py:zzzzz", "no function 'zzzzz' in mine.py", "Correct the name."),
        ("mine.py:helper", "it is not annotated to return an AppDef", "name(...) -> AppDef"),
        ("mine.py:LIMIT", "it is 3", "name(...) -> AppDef"),
        ("mine.py:Arguments", "it is not annotated to return an", "build(self) -> AppDef"),
    ],
)
def test_other_names_are_rejected(folder: Path, name: str, what: str, fix: str) -> None:
    """A name that is not a component is rejected with the reason and a fix."""
    with pytest.raises(ComponentError) as caught:
        components.get(name, folder=folder)

    assert what in caught.value.what
    assert fix in caught.value.fix


def test_parameter_without_a_type(folder: Path) -> None:
    """A parameter without a type is rejected when the arguments are parsed."""
    file = folder / "untyped.py"
    file.write_text("from airflow_torchx.specs import AppDef\ndef f(a) -> AppDef: ...\n")

    with pytest.raises(ComponentError, match=r"'a' of component '.*untyped.py:f' has an unsupp"):
        components.parse(f"{file}:f", ["--a", "1"])


def test_annotations_may_be_strings(folder: Path) -> None:
    """String annotations are evaluated, and this package's __future__ flags do not apply."""
    file = folder / "texts.py"
    file.write_text(
        "from airflow_torchx.specs import AppDef\n"
        "def f(a: 'int') -> 'AppDef': return AppDef(repr((a, f.__annotations__['a'])))\n"
    )

    assert "(1, 'int')" == components.parse(f"{file}:f", ["--a", "1"]).name


def test_component_that_returns_something_else(folder: Path) -> None:
    """A component that returns anything but an AppDef is an error, whatever its annotation."""
    file = folder / "liar.py"
    file.write_text("from airflow_torchx.specs import AppDef\ndef f() -> AppDef:\n    return 3\n")

    with file.open("a") as more:
        more.write("async def g() -> AppDef:\n    return 3\n")
    with pytest.raises(ComponentError, match="returned coroutine instead of an AppDef"):
        components.parse(f"{file}:g", [])
    with pytest.raises(ComponentError, match="returned int instead of an AppDef"):
        components.parse(f"{file}:f", [])
