"""Tests the substitution of macros."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_torchx.specs import BindMount, Role, macros

VALUES = macros.Values(img_root="/root", app_id="train-x", replica_id="3", rank0_env="RANK0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (macros.img_root, "/root"),
        (macros.app_id, "train-x"),
        (macros.replica_id, "3"),
        (macros.rank0_env, "RANK0"),
        ("$app_id/${replica_id}", "train-x/3"),
        ("$${app_id}", "${app_id}"),
        ("$${${rank0_env}:=localhost}:1", "${RANK0:=localhost}:1"),
        ("${other} $HOME $", "${other} $HOME $"),
        ("${app_id", "${app_id"),
    ],
)
def test_substitute(text: str, expected: str) -> None:
    """Macros are substituted, $$ becomes a dollar, and everything else stays."""
    assert expected == VALUES.substitute(text)


def test_values_as_a_dict() -> None:
    """The values are a dict by the names of the macros."""
    expected = {"img_root": "/root", "app_id": "train-x", "replica_id": "3", "rank0_env": "RANK0"}

    assert expected == VALUES.to_dict()


@given(st.text("{}ap_id é\n\\"))
def test_text_without_dollar_stays(text: str) -> None:
    """A text without a dollar stays unchanged."""
    assert text == VALUES.substitute(text)


def test_apply_replaces_args_env_and_metadata() -> None:
    """Macros are substituted in args, in the values of env, and at any depth of metadata."""
    role = Role(
        name="${app_id}",
        image="${app_id}",
        entrypoint="${app_id}",
        args=["--id", "${app_id}"],
        env={"${app_id}": "${replica_id}"},
        metadata={"a": "${app_id}", "b": {"c": ["${app_id}", 1, {"d": "$app_id"}]}, "n": None},
        mounts=[BindMount("/${app_id}", "/b")],
    )
    before = copy.deepcopy(role)

    assert VALUES.apply(role) == Role(
        name="${app_id}",
        image="${app_id}",
        entrypoint="${app_id}",
        args=["--id", "train-x"],
        env={"${app_id}": "3"},
        metadata={"a": "train-x", "b": {"c": ["train-x", 1, {"d": "train-x"}]}, "n": None},
        mounts=[BindMount("/${app_id}", "/b")],
    )
    assert before == role
