"""TorchX's module paths: what is there, and that the page says so."""

from __future__ import annotations

import ast
import importlib
import re
import unittest
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import airflow_torchx
from airflow_torchx import components, errors, specs
from airflow_torchx.components import utils
from airflow_torchx.components.component_test_base import ComponentTestCase
from airflow_torchx.schedulers import get_default_scheduler_name, get_scheduler_factories
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role, api, builders, finder
from airflow_torchx.testing import FakeEngine
from tests import pages

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE: Final = Path(airflow_torchx.__file__).parent
RE_EXPORTS: Final = ("specs/api.py", "specs/builders.py", "specs/finder.py", "schedulers/api.py")


def rows() -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each of TorchX's modules in the table, with what is here, and what is not."""
    text = (pages.ROOT / "docs" / "compatibility.md").read_text()
    section = text.split("### TorchX's module paths\n")[1].split("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("| `torchx."):
            where, here, missing = line.strip("|").split("|")
            here, missing = (re.sub(r"\(.*?\)|( with |: ).*", "", cell) for cell in (here, missing))
            for module in re.findall(r"`torchx\.([\w.]+)`", where):
                yield module, re.findall(r"`(\w+)`", here), re.findall(r"`(\w+)`", missing)


@pytest.mark.parametrize(("module", "here", "missing"), [*rows()])
def test_table_of_module_paths(module: str, here: list[str], missing: list[str]) -> None:
    """A name in the column of what is here can be imported, and one in the other cannot."""
    if not here:
        with pytest.raises(ImportError):
            importlib.import_module(f"airflow_torchx.{module}")
        return
    found = importlib.import_module(f"airflow_torchx.{module}")

    assert [] == [name for name in here if not hasattr(found, name)]
    assert [] == [name for name in missing if hasattr(found, name)]


def test_table_lists_every_re_export() -> None:
    """The table has every name that a module of TorchX's re-exports."""
    listed = [(module, {*here}) for module, here, _ in rows()]

    for file in RE_EXPORTS:
        name = file.removesuffix(".py").replace("/", ".")
        exported = {*importlib.import_module(f"airflow_torchx.{name}").__all__}
        assert exported - {"BindMount", "DeviceMount", "VolumeMount"} <= set().union(
            *(here for module, here in listed if module == name)
        )


@pytest.mark.parametrize("file", RE_EXPORTS)
def test_re_exports_hold_nothing_else(file: str) -> None:
    """A module of re-exports has its docstring, imports and ``__all__``."""
    _docstring, *imports, exported = ast.parse((PACKAGE / file).read_text()).body

    assert {ast.ImportFrom} == {type(one) for one in imports}
    assert ast.unparse(exported).startswith("__all__ = ")


def test_exceptions_are_ours() -> None:
    """TorchX's exceptions are what our functions raise."""
    with pytest.raises(api.MalformedAppHandleException):
        specs.parse_app_handle("x")
    with pytest.raises(api.InvalidRunConfigException) as caught:
        DockerScheduler("s", FakeEngine()).submit_dryrun(AppDef("a"), {"privilegd": True})
    assert "privilegd" == caught.value.cfg_key
    with pytest.raises(api.UnknownAppException):
        DockerScheduler("s", FakeEngine()).log_iter("gone", "r")
    with pytest.raises(errors.InvalidAppError) as invalid:
        DockerScheduler("s", FakeEngine()).submit_dryrun(AppDef("a"), {})
    assert not isinstance(invalid.value, api.InvalidRunConfigException)


def test_exceptions_are_made_as_in_torchx() -> None:
    """A test of a user can make each of TorchX's exceptions with TorchX's arguments."""
    invalid = api.InvalidRunConfigException("no such option", "k", {"secret": "hidden-word"})

    assert "options.k: no such option" in str(invalid)
    assert "hidden-word" not in str(invalid)
    assert "k" == invalid.cfg_key
    assert "expected scheduler://session/app_id, got 'x://'" in str(
        api.MalformedAppHandleException("x://")
    )
    for kind in (
        api.UnknownAppException,
        finder.ComponentNotFoundException,
        finder.ComponentValidationException,
    ):
        assert "local_docker://torchx/x" == str(kind("local_docker://torchx/x"))


@pytest.mark.usefixtures("own_modules")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("utils.ecko", ""),
        ("no.such_module:f", ""),
        ("gone.py:f", ""),
        ("mine.py:g", "def f(): ..."),
        ("torchx:dist.ddp", ""),
    ],
)
def test_component_that_is_not_found(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A component, module, file or function that does not exist is not found."""
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("mine.py").write_text(text)

    with pytest.raises(finder.ComponentNotFoundException):
        finder.get_component(name)


@pytest.mark.usefixtures("own_modules")
@pytest.mark.parametrize(
    ("text", "is_invalid"),
    [
        ("def f(): ...", True),
        ("f = 1", True),
        ("def f(a) -> AppDef: ...", True),
        ("def f(**a: str) -> AppDef: ...", True),
        ("def f(a: 'Nothing') -> AppDef: ...", True),
        ("import no_such_module", False),
    ],
)
def test_component_that_is_invalid(text: str, *, is_invalid: bool, tmp_path: Path) -> None:
    """A function that a command line cannot call is invalid, unlike a file that fails."""
    file = tmp_path / "invalid.py"
    file.write_text(f"from airflow_torchx.specs import AppDef\n{text}\n")

    with pytest.raises(errors.ComponentError) as caught:
        finder.get_component(f"{file}:f")

    assert is_invalid is isinstance(caught.value, finder.ComponentValidationException)
    assert not isinstance(caught.value, finder.ComponentNotFoundException)


def test_found_component() -> None:
    """A found component has its function, its names and the first paragraph of its docstring."""
    found = finder.get_component("utils.echo")

    assert ("utils.echo", "echo", utils.echo) == (found.name, found.fn_name, found.fn)
    assert "Print a message in each replica." == found.description
    assert [*components.COMPONENTS] == [*finder.get_components()]
    assert found == finder.get_components()["utils.echo"]
    assert "def echo(" in finder.get_builtin_source("utils.echo")


def test_app_of_a_component() -> None:
    """An app is built from a component's function, its arguments and defaults for these."""
    app = builders.materialize_appdef(utils.echo, ["--msg", "a"], {"image": "i", "msg": "b"})

    assert [Role("echo", "i", entrypoint="echo", args=["a"], resource=app["echo"].resource)] == (
        app.roles
    )


def test_scheduler_factories() -> None:
    """There are two schedulers, and the one with TorchX's name is the default."""
    factories = get_scheduler_factories()
    scheduler = factories[get_default_scheduler_name()]("mine", engine=FakeEngine())

    assert ["local_docker", "docker_swarm"] == [*factories]
    assert "docker_swarm" == factories["docker_swarm"]("mine", engine=FakeEngine()).backend
    assert ("mine", "docker") == (scheduler.session_name, scheduler.backend)
    assert {} == get_scheduler_factories(skip_defaults=True)


class OwnTest(ComponentTestCase):
    """Tests a component as a user of TorchX does."""

    #: For pytest: `test_component_test_case` runs it.
    __test__ = False

    def test_valid(self) -> None:
        """A component that a command line can call is valid."""
        self.validate(utils, "sh")
        assert [] == [*Path(self.test_dir).iterdir()]

    def test_invalid(self) -> None:
        """A function that is not a component is not valid."""
        self.validate(utils, "_program")


def test_component_test_case() -> None:
    """TorchX's test case passes for a component, fails for another function, and cleans up."""
    result = unittest.TestResult()
    for name in ("test_valid", "test_invalid"):
        OwnTest(name).run(result)

    (_, trace), *more = result.errors
    assert 2 == result.testsRun
    assert [] == [*more, *result.failures]
    assert "InvalidComponentError" in trace
