"""The page's JavaScript: its own tests, and what none of its files may contain."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import jsonschema
import pytest

import airflow_torchx
from tests.conftest import do_without
from tests.ui import schema_types

STATIC: Final = Path(airflow_torchx.__file__).parent / "ui" / "static"
TESTS: Final = Path(__file__).parent
MODULES: Final = sorted(STATIC.glob("*.js"))
#: What makes markup or code of a text, or sends a reader to an address that came with data.
FORBIDDEN: Final = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
    r"|createContextualFragment|DOMParser|setHTMLUnsafe|srcdoc|javascript:"
    r"|\.on[a-z]+\s*=|\.(?:src|action|formAction)\s*=|location(?:\.href)?\s*=[^=]|setAttribute\(\s*[\"'`]on|https?://(?!www\.w3\.org/2000/svg)|import\((?!\"\./)"
)


def test_the_model_draws_what_snapshots_say() -> None:
    """The tests of the page's pure modules pass under Node."""
    node = shutil.which("node")
    if node is None:
        do_without("no node: run container/node.sh")

    ran = subprocess.run(
        [node, "--test", *map(str, sorted(TESTS.glob("*.test.mjs")))],
        check=False,
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^\S pass [1-9]", ran.stdout, re.MULTILINE)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_makes_neither_markup_nor_code_of_a_text(module: Path) -> None:
    """The host page has no content security policy: what is not a text node would be run."""
    assert [] == FORBIDDEN.findall(module.read_text())


@pytest.mark.parametrize(
    "planted",
    [
        "pane.innerHTML = line;",
        "button.onclick = stop;",
        'link.setAttribute("onclick", text)',
        "eval(text)",
        'import("https://cdn.example/x.js")',
        'frame.srcdoc = "";',
        "image.src = url;",
        "location = url;",
    ],
)
def test_a_planted_line_is_found(planted: str) -> None:
    """The rule finds each way to make markup or code of a text."""
    assert FORBIDDEN.search(planted)


def test_one_function_makes_links() -> None:
    """The address of a link is a path of Airflow, so no text of an app becomes one."""
    setters = [module.name for module in MODULES if re.search(r"\.href\s*=", module.read_text())]

    assert ["dom.js"] == setters
    assert 1 == len(re.findall(r"\.href\s*=", (STATIC / "dom.js").read_text()))


def test_node_is_told_that_the_files_are_modules() -> None:
    """Node 18 does not find that out from their text."""
    assert "module" == json.loads((STATIC.parent / "package.json").read_text())["type"]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_has_300_lines_at_most_and_imports_only_its_neighbours(module: Path) -> None:
    """The page is plain modules that any server of files can serve: no build step, no package."""
    text = module.read_text()

    assert len(text.splitlines()) <= 300
    for name in re.findall(r"(?:^|\n)(?:import|export) [^;]*? from \"([^\"]+)\"", text):
        assert name.startswith("./")
        assert (STATIC / name).is_file()


@pytest.mark.parametrize("file", sorted(TESTS.glob("snapshots/*.json")), ids=lambda path: path.stem)
def test_a_recorded_snapshot_has_the_form_that_is_written(file: Path) -> None:
    """What the page is tested on is valid by the schema of the XCom."""
    schema = json.loads((STATIC.parents[1] / "core/state/snapshot.v1.json").read_text())

    jsonschema.validate(json.loads(file.read_text()), schema)


def test_the_types_of_a_snapshot_are_those_of_its_schema() -> None:
    """The checker of the page's JavaScript knows each field of the XCom, and no other."""
    schema = json.loads(schema_types.SCHEMA.read_text())

    assert schema_types.types(schema) == schema_types.TYPES.read_text()


def test_two_types_of_one_name_are_an_error() -> None:
    """A second object of one key does not get the type of the first one."""
    texts = {"type": "object", "properties": {"a": {"type": "string"}}, "required": []}
    other = {"type": "object", "properties": {"limit": texts | {"properties": {}}}, "required": []}
    both = {"type": "object", "properties": {"limit": texts, "gpu": other}, "required": []}

    with pytest.raises(ValueError, match="two types of the schema are Limit"):
        schema_types.types(both)
