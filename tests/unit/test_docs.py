"""The pages say what the code says, and their links lead somewhere."""

from __future__ import annotations

import ast
import builtins
import configparser
import html
import json
import re
import runpy
import subprocess
import textwrap
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

import airflow_torchx
from airflow_torchx import components, errors
from airflow_torchx.components.registry import COMPONENTS
from airflow_torchx.components.source import source_of
from airflow_torchx.core.connection.settings import FIELDS, Settings
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.images import WORKSPACE_REPOSITORY
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.state.failure_rules import BUILT_IN
from airflow_torchx.core.task.record import RECORD_KEY
from airflow_torchx.docker_engine.engine import NETWORK_LABEL
from airflow_torchx.provider import get_provider_info
from airflow_torchx.runtime.watch.app_endings import STATE_KEY
from airflow_torchx.testing import Program
from airflow_torchx.workspace.left_out import is_listed
from tests import pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT: Final = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["project"]
PICTURE: Final = pages.ROOT / "docs" / "failure-card.svg"
#: Messages of Docker or Airflow, which our code does not contain as they are.
THEIRS: Final = frozenset(
    {
        "CDI device injection failed: unresolvable CDI devices …",
        "no space left on device",
        "terminate called without an active exception",
    }
)


def test_the_readme_takes_a_minute() -> None:
    """The README has 600 words at most."""
    assert len((pages.ROOT / "README.md").read_text().split()) <= 600


def test_links_lead_somewhere() -> None:
    """Every relative link names a file, and a heading of it if it has an anchor."""
    broken = []
    for page in pages.ALL:
        for link in pages.links(page):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if "://" not in link and not (
                target.exists() and (not anchor or anchor in pages.anchors(target))
            ):
                broken.append(f"{page.relative_to(pages.ROOT)}: {link}")

    assert broken == []


def test_every_page_is_on_the_site_and_in_the_overview() -> None:
    """The table of contents of the site and that of the overview name every page."""
    names = {page.name for page in pages.PAGES[1:]}
    site = (pages.ROOT / "mkdocs.yml").read_text()
    overview = {link.partition("#")[0] for link in pages.links(pages.ROOT / "docs" / "README.md")}

    assert names == set(re.findall(r"^ +- .*: (.*\.md)$", site, re.MULTILINE))
    assert names - {"README.md"} <= overview


def test_the_picture_is_what_the_command_draws() -> None:
    """The picture of the README has the text that the package writes today."""

    def texts(svg: str) -> list[str]:
        return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]

    draw: Callable[[], str] = runpy.run_path(str(PICTURE.parent / "tools" / "failure_card.py"))[
        "picture"
    ]

    assert texts(draw()) == texts(PICTURE.read_text()), "run: make docs"
    assert "@font-face" not in PICTURE.read_text()


@pytest.mark.parametrize(
    ("language", "parse"),
    [
        ("toml", tomllib.loads),
        ("json", json.loads),
        ("ini", lambda text: configparser.ConfigParser().read_string(text)),
        ("python", ast.parse),
        ("yaml", yaml.safe_load),
        ("sh", lambda text: subprocess.run(["bash", "-n"], input=text.encode(), check=True)),
    ],
)
def test_code_blocks_parse(language: str, parse: Callable[[str], Any]) -> None:
    """Every block is correct in the language that it names."""
    for block in pages.blocks(language):
        parse(block.text)


def test_every_connection_is_valid() -> None:
    """The extra of each connection that a page adds has fields and values that are taken."""
    extras = [
        extra
        for block in pages.blocks("sh")
        for extra in re.findall(r"--conn-extra '([^']*)'", block.text)
    ]

    found = [Settings.parse("tcp://box1:2376", extra) for extra in extras]

    assert any(one.endpoint.swarm for one in found)


def test_every_block_names_a_language_that_is_checked() -> None:
    """Only output is plain text, and no block is without a language."""
    fences = [
        fence
        for page in pages.PAGES
        for fence in re.findall(r"^```(\w*)$", page.read_text(), re.MULTILINE)
    ]

    assert set(fences[::2]) <= {"toml", "json", "ini", "python", "sh", "text", "yaml"}
    assert set(fences[1::2]) == {""}


def parameters(module: str, name: str) -> set[str]:
    """Return the parameters of a class, read from the source: importing Airflow takes seconds."""
    source = Path(airflow_torchx.__file__).parent / f"{module}.py"
    (found,) = [
        node
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    (init,) = [n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    return {argument.arg for argument in init.args.kwonlyargs}


def test_every_argument_of_a_task_is_in_its_table() -> None:
    """The tables name all arguments of the operator, the sensor and the decorator."""
    operator = parameters("operators", "TorchXDockerOperator")
    decorator = parameters("decorators", "_TorchXDecoratedOperator")

    assert operator == pages.names("operator.md", "Arguments")
    assert decorator - operator - {"python_callable"} == pages.names("decorator.md", "Arguments")
    assert parameters("sensors", "TorchXDockerSensor") == pages.names(
        "sensor-and-trigger.md", "Arguments"
    )


def test_every_argument_of_the_trigger_is_named() -> None:
    """The page of the trigger names all of its arguments."""
    text = (pages.ROOT / "docs" / "sensor-and-trigger.md").read_text().split("\n## Trigger")[1]

    assert [
        name for name in parameters("triggers", "TorchXDockerTrigger") if f"`{name}`" not in text
    ] == []


def test_every_option_and_field_is_in_its_table() -> None:
    """The tables name all run options, fields of a connection and of a fake program."""
    assert {option.name for option in fields(Opts)} == pages.names("connection.md", "Run options")
    assert set(FIELDS) == pages.names("connection.md", "Create a connection")
    assert {field.name for field in fields(Program)} == pages.names(
        "testing.md", "What a fake container does"
    )


def test_every_component_is_in_its_table() -> None:
    """The table of components names all that are built in."""
    cells = pages.first_cells("components.md", "Built-in components")

    assert set(COMPONENTS) == {name for cell in cells for name in re.findall(r"`([\w.]+)`", cell)}


@pytest.mark.parametrize("name", COMPONENTS)
def test_printed_components_import_only_what_is_stable(name: str) -> None:
    """The source of a component that users start from imports only paths that stay."""
    text = (pages.ROOT / "docs" / "compatibility.md").read_text()
    stable = {*re.findall(r"`(?:airflow_torchx)?\.(\w+)`", text.split("**Import paths**")[1])}
    imports = [
        node.module.split(".")
        for node in ast.walk(ast.parse(source_of(name, components.get(name))))
        if isinstance(node, ast.ImportFrom) and node.module
    ]
    ours = {tuple(rest) for package, *rest in imports if package == "airflow_torchx"}

    assert ("specs",) in ours
    assert {(path,) for path in stable} >= ours


def test_names_that_are_left_out_are_listed() -> None:
    """The table of what a workspace leaves out has names of the list, or of what it looks for."""
    section = (pages.ROOT / "docs" / "workspaces.md").read_text().split("these are left out**")[1]
    rows = re.findall(
        r"^\| [a-zA-Z].* \| (`.*?) \|$", section.split("One line of")[0], re.MULTILINE
    )
    names = {name for row in rows for name in re.findall(r"`(.+?)`", row)}

    assert len(rows) == 6
    markers = {"pyvenv.cfg", "conda-meta", "bin/activate", "CACHEDIR.TAG"}
    assert markers | {"server.pem", "account.json"} == {
        name for name in names if not is_listed(name)
    }


def test_errors_in_the_table_exist() -> None:
    """Every error of the operator's table is one of ours."""
    assert [
        name for name in pages.names("operator.md", "Errors and retries") if name not in dir(errors)
    ] == []


def test_every_label_of_a_container_is_in_its_table() -> None:
    """The table of labels names all that a container carries."""
    cells = pages.first_cells("reliability.md", "Leftovers and how to find them")
    named = {name.rpartition("/")[2] for cell in cells for name in re.findall(r"`(.*?)`", cell)}
    carried = {
        value.rpartition("/")[2]
        for name, value in vars(labels).items()
        if isinstance(value, str)
        and value.startswith(labels.RESERVED_PREFIXES)
        and not name.startswith("WORKSPACE")
        and not value.endswith("/")
    }

    assert carried == named


def test_the_commands_of_the_uninstall_name_what_there_is() -> None:
    """The commands that remove what is left use the names that the code gives to it."""
    text = (pages.ROOT / "docs" / "uninstall.md").read_text()
    names = {
        *(labels.LAUNCH_ID, labels.WORKSPACE_KEY, WORKSPACE_REPOSITORY, RECORD_KEY),
        *(
            STATE_KEY.partition("/")[0],
            f"network rm {Opts().network}",
            f"network prune --filter label={NETWORK_LABEL}",
            # Containers of builds and of apps have the first label, and no build takes a day.
            f"{labels.WORKSPACE_KEY} --filter label!={labels.APP_ID} --filter until=24h",
            f"uninstall {PROJECT['name']}",
        ),
    }

    assert [] == [name for name in names if name not in text]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("operators", "TorchXDockerOperator"),
        ("sensors", "TorchXDockerSensor"),
        ("triggers", "TorchXDockerTrigger"),
        ("hooks", "TorchXDockerHook"),
        ("decorators", "torchx_task"),
        ("schedulers.docker_scheduler", "DockerScheduler"),
    ],
)
def test_help_begins_with_an_example(module: str, name: str) -> None:
    """After one sentence, the help shows code that can be pasted: it imports what it uses."""
    path = Path(airflow_torchx.__file__).parent / f"{module.replace('.', '/')}.py"
    (found,) = [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
    ]
    head, _, rest = str(ast.get_docstring(found)).partition("\n\nExample::\n\n")
    code = ast.parse(textwrap.dedent(re.split(r"(?m)^(?=\S)", rest)[0]))
    nodes = [*ast.walk(code)]
    used = [node for node in nodes if isinstance(node, ast.Name)]
    known = {node.name for node in nodes if isinstance(node, ast.alias)} | {*dir(builtins)}
    known |= {node.id for node in used if isinstance(node.ctx, ast.Store)}
    known |= {node.arg for node in nodes if isinstance(node, ast.arg)}

    assert "\n" not in head
    assert used
    assert [] == [node.id for node in used if node.id not in known]


def literals() -> Iterator[str]:
    """Yield every text in the source of the package, with ``…`` for what is filled in."""
    for module in Path(airflow_torchx.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "…"
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[sdg]|%\.\df|{\w+}", "…", node.value)


def test_every_message_of_troubleshooting_is_one_of_ours() -> None:
    """An error text that has changed is changed on the pages that explain it, too."""
    texts = ((pages.ROOT / "docs" / name).read_text() for name in ("troubleshooting.md", "gpus.md"))
    text = "\n".join(texts)
    messages = {
        *re.findall(r"^\| `(.*?)` \|", text, re.MULTILINE),
        *re.findall(r"^- \*\*`(.*?)`\*\*", text, re.MULTILINE),
    }
    known = [*literals()]

    unknown = [
        message
        for message in messages - THEIRS
        if not any(message in literal for literal in known)
        and not _in_pieces(message, "\n".join(known))
    ]

    assert len(messages) > 30
    assert unknown == []


def _in_pieces(message: str, source: str) -> bool:
    """Tell whether a message is put together from texts of the source."""
    pieces = [piece.strip(" .:(){},") for piece in message.split("…")]
    return all(piece in source for piece in pieces if piece)


def test_the_metadata_leads_to_the_pages() -> None:
    """Airflow's list of providers links to the documentation that the package names."""
    info: dict[str, Any] = get_provider_info()
    urls = PROJECT["urls"]

    assert urls["Documentation"] == info["integrations"][0]["external-doc-url"]
    assert all(url.startswith(urls["Source"]) for url in urls.values())


def test_every_failure_rule_is_in_its_table() -> None:
    """The table of failure rules has each built-in one with its action and its advice."""
    text = (pages.ROOT / "docs" / "why-did-it-fail.md").read_text()
    cells = re.findall(r"^\| `(\w+)` \| [^|]* \| `(\w+)` \| ([^|]*) \|$", text, re.MULTILINE)
    rows = [(name, action, advice.replace("`", "")) for name, action, advice in cells]

    assert rows == [(rule.name, rule.action, rule.advice) for rule in BUILT_IN]
