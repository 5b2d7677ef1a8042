"""The list of cases that a swarm does not have is true."""

from __future__ import annotations

import re
from pathlib import Path

from tests.contract.swarm_cases import IN_CAMPAIGN, ON_NODES, OUT, OUT_MODULES

HERE = Path(__file__).parent


def test_each_case_that_is_out_exists() -> None:
    """A case that is left out is one of the contract, and has a reason."""
    assert all(OUT.values())
    named = [tuple(case.split(".")) for case in OUT]
    for one in (ON_NODES, IN_CAMPAIGN):
        named += [(module, name) for module, names in one.items() for name in names]
    for module, name in named:
        text = (HERE / f"{module}.py").read_text()
        first = "bench: Bench|engine: Engine|workspaces: Workspaces"
        assert re.search(rf"^def {name}\((?:{first})", text, re.MULTILINE)


def test_each_module_that_is_out_exists() -> None:
    """A module that is left out is one of the contract, and has a reason."""
    assert all((HERE / f"{module}.py").exists() and why for module, why in OUT_MODULES.items())
