"""Tests of parsing run options from text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_torchx.core.plan.option_text import RepeatedKeyError, read_options, split_dict
from airflow_torchx.core.plan.options import KINDS, Opts


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("env", "A:1;B:2", {"A": "1", "B": "2"}),
        ("env", "A:1,B:2", {"A": "1", "B": "2"}),
        ("env", "URL:http://host:80/x", {"URL": "http://host:80/x"}),
        ("env", "EMPTY:", {"EMPTY": ""}),
        ("env", "A:1;", {"A": "1"}),
        ("extra_hosts", "db:10.0.0.1", {"db": "10.0.0.1"}),
        ("extraHosts", "db:10.0.0.1", {"db": "10.0.0.1"}),
        ("tmpfs", "/fast:", {"/fast": ""}),
        ("log_config", "type:local;max-size:10m", {"type": "local", "config": {"max-size": "10m"}}),
        ("copy_env", "A*;B", ("A*", "B")),
        ("privileged", "Yes", True),
        ("init", "off", False),
        ("stop_grace_s", "2.5", 2.5),
        ("keep_images", "3", 3),
        ("user", "None", None),
        ("copy_env", "None", ()),
    ],
)
def test_texts_are_parsed_like_torchx(name: str, text: str, expected: object) -> None:
    """Lists and mappings take commas and semicolons, booleans many words, and None is no value."""
    options, problems = read_options({name: text})
    known = {"extraHosts": "extra_hosts"}.get(name, name)

    assert [] == problems
    assert expected == getattr(Opts.parse(options), known)


@pytest.mark.parametrize("text", ["s3cret", "A:1;s3cret", ":s3cret"])
def test_an_invalid_mapping(text: str) -> None:
    """The error for an invalid mapping does not repeat it, because it may be a secret."""
    options, (problem,) = read_options({"env": text, "user": "me"})

    assert {"user": "me"} == options
    assert "options.env" == problem.where
    assert "env=KEY:VALUE" in problem.fix
    assert "s3cret" not in str(problem)


def test_every_form_can_be_parsed() -> None:
    """Every form that `runopts` shows can be parsed."""
    examples = {"KEY:VALUE;KEY2:VALUE2": "a:b", "type:DRIVER;OPTION:VALUE": "type:local"}
    special = {"ulimits": "nofile=1:2", "build_secrets": "id=a,env=B", "image_repo": "a/b"}
    special |= {"ipc_mode": "host", "cap_add": "ALL", "security_opt": "label=disable", "dns": "::1"}
    special |= {"extra_hosts": "a:::1", "tmpfs": "/a:size=1m", "working_dir": "/a"}
    special |= {"constraints": "node.role==worker"}
    special |= {"failure_rules": "a:fail:b", "progress_pattern": "(?P<step>.)"}
    for name, kind in KINDS.items():
        form = kind.form
        text: Any = special.get(name) or examples.get(form) or form.partition("|")[0]
        text = {"NUMBER": "7", "A;B": "a", "TEXT": "text"}.get(text, text)
        options, problems = read_options({name: text})

        assert [] == problems
        assert Opts.parse(options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("A=1", {"A": "1"}),
        ("A=1,B=2", {"A": "1", "B": "2"}),
        ("A=1;B=2", {"A": "1", "B": "2"}),
        ("A=1,2", {"A": "1,2"}),
        ("A=1,2,B=3", {"A": "1,2", "B": "3"}),
        ("A=1;2,B=3", {"A": "1;2", "B": "3"}),
        ("A=1,2;B=3", {"A": "1,2", "B": "3"}),
        ("A=1,B=2,", {"A": "1", "B": "2,"}),
        (" A = 1 , B = 2 ", {"A": "1", "B": "2"}),
        ("A=1,B=2,A=1", {"A": "1", "B": "2"}),
        ("A==1", {"A": "1"}),
        ("=A=1", {"A": "1"}),
        ("A=1,B=", {"A": "1,B"}),
        ("A=''", {"A": ""}),
        ('A=""', {"A": ""}),
        ("A='x=1,y;z',B=2", {"A": "x=1,y;z", "B": "2"}),
        ('A="it\'s",B=2', {"A": "it's", "B": "2"}),
        ("A=it's,B=it's", {"A": "it's,B=it's"}),
        ("A='b\\'c=d',E=f", {"A": "b\\'c=d", "E": "f"}),
        ("A='C:\\x=y\\',B=1", {"A": "C:\\x=y\\", "B": "1"}),
        ("A='a','b'", {"A": "a','b"}),
        ("A='", {"A": ""}),
        ("A='b", {"A": "'b"}),
        ("A='b\nc=d'", {"A": "b\nc=d"}),
    ],
)
def test_dicts(text: str, expected: dict[str, str]) -> None:
    """The last unquoted comma or semicolon before a key separates two pairs."""
    assert expected == split_dict(text)


@pytest.mark.parametrize("text", ["A", "A=", "=", " ", "A=1,=2", "A=,B=1", "A=1=2", "A=;=1"])
def test_invalid_dicts(text: str) -> None:
    """A key without a value and a value without a key are rejected."""
    with pytest.raises(ValueError, match=f"not key=value pairs: {text}"):
        split_dict(text)


@pytest.mark.parametrize("text", ["A=s1,A=s2", "A=s1;B=0;A=s2", "A='s2',B=0,A=s1,A=s2"])
def test_repeated_keys(text: str) -> None:
    """A key with two values is rejected, and the error shows the key, but no value."""
    with pytest.raises(RepeatedKeyError) as caught:
        split_dict(text)

    assert "given twice, with different values: A" == str(caught.value)
    assert "s2" == caught.value.pairs["A"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("copy_env=s1,copy_env=s2", ["options.copy_env: given twice", "like copy_env=A;B"]),
        ("copyEnv=s1;copyEnv=s2", ["options.copyEnv: given twice", "like copy_env=A;B"]),
        ("env=A:s1,env=B:s2", ["options.env: given twice", "env=KEY:VALUE;KEY2:VALUE2"]),
        ("env=A:s1;A:s2", ["options.env.A: given twice", "env=KEY:VALUE;KEY2:VALUE2"]),
        ("labels=a:s1,b:2,a:s2", ["options.labels.a: given twice"]),
        ("log_config=type:s1;type:s2", ["options.log_config.type: given twice"]),
        ("privileged=True,quiet=True,privileged=False", ["options.privileged: given twice"]),
        ("user=s1,x=1,user=s2,x=2", ["options.user: given twice", "options.x: given twice"]),
        ("env=A:s1;A:s2,user=s1,user=s2", ["options.user: given twice", "options.env.A: given"]),
    ],
)
def test_repeated_options(text: str, expected: list[str]) -> None:
    """An option or a key with two values is a problem, whose text does not show the values."""
    _, problems = read_options(text)

    lines = "\n".join(map(str, problems))
    assert [] == [part for part in expected if part not in lines]
    assert "s1" not in lines
    assert "s2" not in lines


@pytest.mark.parametrize("text", ["user=a,user=a", "env=A:1;A:1", "env=A:1,env=A:1"])
def test_equal_repetitions(text: str) -> None:
    """An option or a key that is repeated with the same value is accepted."""
    options, problems = read_options(text)

    assert [] == problems
    assert 1 == len(options)


NAME = st.text("abcXYZ_019", min_size=1, max_size=5)
VALUE = st.text("abc,;= /:", max_size=8)


@settings(max_examples=40)
@given(st.dictionaries(NAME, VALUE, max_size=4))
def test_quoted_values_are_safe(pairs: dict[str, str]) -> None:
    """Quoted values are kept unchanged."""
    assert pairs == split_dict(",".join(f"{key}='{value}'" for key, value in pairs.items()))
