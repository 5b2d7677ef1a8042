"""Tests the help of a component."""

from __future__ import annotations

import inspect
import re
from typing import Annotated

import pytest

from airflow_torchx import components


def train(  # noqa: D417 - as users write
    model: str,
    *script_args: str,
    j: str = "1x2",
    fast: bool = False,
    tags: list[str] | None = None,
    config: Annotated[str, "-cn"] = "",
    blob: bytes = b"",
) -> None:
    """Train ``a`` model,
    on any data.

    More than that.

    Args:
        model: which one: a name
            or a path.
        *script_args (str): what the script gets
        j: nodes.

            More about nodes.
        fast (bool): be fast
        unknown: nobody

    Returns:
        nothing: at all
    """  # noqa: D205 - as users write


def test_help() -> None:
    """The help shows usage and summary, and each option's spelling, meaning, type and default."""
    assert """\
usage: mine.train --model MODEL [-j J] [--fast FAST] [--tags TAGS] [-cn CONFIG]
  [--blob BLOB] [-- script_args ...]

Train `a` model, on any data.

options:
  --model MODEL     which one: a name or a path; a string, required
  -j, --j J         nodes.  More about nodes; a string, default 1x2
  --fast FAST       be fast; True or False, default False
  --tags TAGS       a list like a,b, no default
  -cn, --config CONFIG
                    a string, no default
  --blob BLOB       cannot be set on a command line
  -- script_args ...
                    what the script gets; each a string""" == components.usage("mine.train", train)


def test_minimal_help() -> None:
    """Without a docstring and parameters, the help is the component's name."""
    assert "usage: f" == components.usage("f", lambda: None)


@pytest.mark.parametrize("name", components.names())
def test_built_in_options_are_documented(name: str) -> None:
    """Every option of a built-in component has a description."""
    function = components.get(name)
    _, *options = re.split(r"\n  (?=-)", components.usage(name, function))

    assert len(options) == len(inspect.signature(function).parameters)
    assert all(";" in option for option in options)
