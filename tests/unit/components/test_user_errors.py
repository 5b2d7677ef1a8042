"""Tests the errors that users' code causes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx import components
from airflow_torchx.errors import ComponentError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("own_modules")


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        (
            "import torchx.specs as specs",
            "Import airflow_torchx.specs instead of torchx.specs, or i",
        ),
        (
            "from torchx import specs",
            "Import airflow_torchx.specs instead of torchx.specs, or inst",
        ),
        ("from torchx.specs import (\n    AppDef,\n)", "Import airflow_torchx.specs instead of t"),
        (
            "from torchx.components import dist",
            "Import airflow_torchx.components.dist instead of torchx.components.dist, or install T",
        ),
        ("import os, torchx.specs", "Import airflow_torchx.specs instead of torchx.specs, or inst"),
        ("if True: from torchx import specs", "Import airflow_torchx.specs instead of torchx.spe"),
        ("__import__('torchx.specs')", "Import airflow_torchx.specs instead of torchx.specs, or "),
        ("import torchx", "Install TorchX, which is the extra torchx: pip install torchx-nightly"),
        ("from torchx.runner import get_runner", "Install TorchX, which is the extra torchx: pip"),
        ("import helper_of_torchx", "Import airflow_torchx.specs.api instead of torchx.specs.api"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_import_of_torchx_without_it(tmp_path: Path, line: str, fix: str, inside: bool) -> None:
    """An import of TorchX without it names the module of this package, or how to install TorchX."""
    tmp_path.joinpath("helper_of_torchx.py").write_text("from torchx.specs.api import AppDef\n")
    head = "from airflow_torchx.specs import AppDef\ndef f() -> AppDef:\n"
    body = "\n    ".join(line.splitlines())
    tmp_path.joinpath("theirs.py").write_text(f"{head}    {body}\n" if inside else f"{line}\n")

    with pytest.raises(ComponentError, match="No module named 'torchx'") as caught:
        components.parse("theirs.py:f", [], folder=tmp_path)

    assert caught.value.fix.startswith(fix)


@pytest.mark.parametrize(
    "raised",
    [
        "RuntimeError('no TorchX') from error",
        "RuntimeError('no TorchX')",
        "ImportError('no TorchX') from None",
        "SystemExit('no TorchX')",
        "error from error",
    ],
)
@pytest.mark.parametrize("where", ["theirs", "helper_of_torchx"])
def test_an_import_error_in_another_error(tmp_path: Path, raised: str, where: str) -> None:
    """The error of a component that caught the import of TorchX names what to do about it, too."""
    text = "try:\n    from torchx import specs\nexcept ImportError as error:\n    raise "
    tmp_path.joinpath("theirs.py").write_text("import helper_of_torchx\n")
    tmp_path.joinpath(f"{where}.py").write_text(f"{text}{raised}\n")

    with pytest.raises(ComponentError, match=r"[Nn]o (TorchX|module)") as caught:
        components.parse("theirs.py:f", [], folder=tmp_path)

    assert caught.value.fix.startswith("Import airflow_torchx.specs instead of torchx.specs, or in")


def test_an_error_after_another_import_has_no_such_hint(tmp_path: Path) -> None:
    """An error that no import of TorchX led to keeps its own fix."""
    text = "try:\n    import no_such\nexcept ImportError:\n    raise RuntimeError('no')\n"
    tmp_path.joinpath("theirs.py").write_text(text)

    with pytest.raises(ComponentError) as caught:
        components.parse("theirs.py:f", [], folder=tmp_path)

    assert "Fix the error in that file." == caught.value.fix


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("x = 1\nimport no_such_module\n", "ModuleNotFoundError: No module named 'no_such_mod", 2),
        ("x = 1\n\ndef f(:\n", "SyntaxError: ", 3),
        ("def f():\n    return 1 / 0\n\nf()\n", "ZeroDivisionError: division by zero", 2),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3", 2),
    ],
)
def test_file_that_cannot_be_loaded(tmp_path: Path, text: str, what: str, line: int) -> None:
    """The error shows the exception and its line in the file."""
    file = tmp_path / "broken.py"
    file.write_text(text)

    with pytest.raises(ComponentError, match="cannot load component") as caught:
        components.get(f"{file}:f")

    assert what in caught.value.what
    assert f"({file}, line {line})" in caught.value.what
